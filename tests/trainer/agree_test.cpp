#include "trainer/agree.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "comm/communicator_local.h"
#include "comm/heartbeat.h"

namespace trainer {
namespace {

using std::chrono::milliseconds;

TEST(Agree, TheFirstErrorIsEverybodys) {
  std::atomic<int> thrown = 0;
  comm::run_local(3, [&](comm::Communicator& communicator) {
    try {
      agree(communicator, [&] {
        if (communicator.rank() > 0)
          comm::fail(comm::ExitCode::kData, "rank {}", communicator.rank());
      });
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.code(), comm::ExitCode::kData);
      EXPECT_STREQ(error.what(), "rank 1");
      ++thrown;
    }
  });
  EXPECT_EQ(thrown, 3);
}

// A rank whose work takes long and goes on is waited for; the waiting one is not called stuck.
TEST(Agree, WhoWaitsIsNotStuck) {
  std::mutex mutex;
  std::vector<std::string> lines;
  comm::run_local(2, [&](comm::Communicator& communicator) {
    comm::Progress progress;
    comm::HeartbeatOptions options{milliseconds(400), milliseconds(400)};
    options.on_lost = [&](const std::string& line) {
      const std::lock_guard lock(mutex);
      lines.push_back(line);
    };
    const comm::Heartbeat heartbeat(communicator, progress, options);
    agree(communicator, progress, [&] {
      progress.publish(comm::Phase::kEval, 0);
      for (int i = 1; communicator.rank() == 1 && i < 150; ++i) {
        std::this_thread::sleep_for(milliseconds(10));
        progress.publish(comm::Phase::kEval, i);
      }
    });
    EXPECT_FALSE(progress.waiting());
  });
  EXPECT_TRUE(lines.empty()) << lines[0];
}

}  // namespace
}  // namespace trainer
