// The staged communicator between ranks that are threads, each with a stream of one software GPU.
#include <gtest/gtest.h>

#include "comm/buffer.h"
#include "comm/communicator_local.h"
#include "comm/device_communicator.h"
#include "comm/parallel.h"

namespace comm {
namespace {

constexpr Device kGpu{DeviceKind::kCuda, 0};

struct Store {
  float value;
  float* to;
  RIDGELINE_HD void operator()(std::int64_t i) const { to[i] = value; }
};
struct Double {
  const float* from;
  float* to;
  RIDGELINE_HD void operator()(std::int64_t i) const { to[i] = 2 * from[i]; }
};

// Nobody synchronizes between a kernel that writes, the verb, and a kernel that reads.
TEST(StagedCommunicator, VerbsAreOrderedWithTheComputeStream) {
  const std::size_t shard = 50;
  run_local(3, [&](Communicator& control) {
    const Stream stream(kGpu);
    const auto staged = device_communicator(control, stream);
    const auto ranks = static_cast<std::size_t>(control.size());
    const auto own = static_cast<std::size_t>(control.rank());
    const Buffer whole(kGpu, ranks * shard * sizeof(float));
    const Buffer doubled(kGpu, whole.size_bytes());
    const auto count = static_cast<std::int64_t>(ranks * shard);
    std::vector<float> result(ranks * shard);
    std::int64_t allocations = 0;
    for (int step = 0; step < 4; ++step) {
      parallel_for(stream, shard,
                   Store{static_cast<float>(own + 10 * static_cast<std::size_t>(step)),
                         whole.as<float>().data() + own * shard});
      const auto request = staged->all_gather(whole.as<float>());
      request->wait();
      parallel_for(stream, count, Double{whole.as<float>().data(), doubled.as<float>().data()});
      copy_bytes(stream, std::as_writable_bytes(std::span(result)), doubled.bytes());
      for (std::size_t i = 0; i < result.size(); ++i)
        ASSERT_EQ(result[i],
                  static_cast<float>(2 * (i / shard + 10 * static_cast<std::size_t>(step))));
      control.barrier();
      if (step == 0) allocations = allocation_count();
      control.barrier();
    }
    EXPECT_EQ(allocation_count(), allocations);  // the staging of the first step serves all
  });
}

}  // namespace
}  // namespace comm
