#include "comm/device.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

#include "comm/communicator_local.h"
#include "comm/threads.h"

namespace comm {
namespace {

// Runs on one core only, in a thread of its own so that no other test notices.
void on_core(int core, const std::function<void()>& action) {
  std::thread([&] {
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET(core, &mask);
    ASSERT_EQ(sched_setaffinity(0, sizeof(mask), &mask), 0);
    action();
  }).join();
}

TEST(CpuInfo, FollowsTheAffinityMask) {
  const CpuInfo whole = cpu_info();
  ASSERT_FALSE(whole.cores.empty());
  EXPECT_FALSE(whole.isa.empty());
  EXPECT_FALSE(host_name().empty());
  on_core(whole.cores.back(),
          [&] { EXPECT_EQ(cpu_info().cores, std::vector<int>{whole.cores.back()}); });
}

TEST(Device, Names) {
  EXPECT_EQ(to_string(Device{}), "cpu");
  EXPECT_EQ(to_string(Device{DeviceKind::kCuda, 3}), "cuda:3");
}

TEST(Threads, SharedCoresAreDividedAndNeverZero) {
  const int cores = static_cast<int>(cpu_info().cores.size());
  for (const int ranks : {1, 2, 5})
    run_local(ranks, [&](Communicator& communicator) {
      EXPECT_EQ(default_threads(communicator), std::max(1, cores / ranks));
      EXPECT_EQ(local_rank(communicator).rank, communicator.rank());
      EXPECT_EQ(local_rank(communicator).size, ranks);
    });
}

TEST(Threads, DisjointMasksAreTakenAsTheyAre) {
  const auto cores = cpu_info().cores;
  if (cores.size() < 2) GTEST_SKIP() << "needs 2 cores";
  run_local(2, [&](Communicator& communicator) {
    on_core(cores[static_cast<std::size_t>(communicator.rank())],
            [&] { EXPECT_EQ(default_threads(communicator), 1); });
  });
}

}  // namespace
}  // namespace comm
