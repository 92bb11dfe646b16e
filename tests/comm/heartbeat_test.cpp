#include "comm/heartbeat.h"

#include <gtest/gtest.h>

#include <mutex>
#include <thread>

#include "comm/communicator_local.h"

namespace comm {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// Lines that any rank reported, with the time since `start`.
struct Reports {
  std::mutex mutex;
  std::vector<std::string> lines;

  HeartbeatOptions options(milliseconds limit, milliseconds long_limit) {
    return {limit, long_limit, [this](const std::string& line) {
              const std::lock_guard lock(mutex);
              lines.push_back(line);
            }};
  }
  std::size_t count() {
    const std::lock_guard lock(mutex);
    return lines.size();
  }
};

void steps(Communicator& communicator, Progress& progress, int from, int to) {
  for (int step = from; step < to; ++step) {
    progress.publish(Phase::kStep, step);
    std::this_thread::sleep_for(milliseconds(1));
    const Progress::Waiting waiting(progress);
    communicator.barrier();
  }
}

TEST(Heartbeat, NormalStepsRaiseNoAlarm) {
  Reports reports;
  run_local(4, [&](Communicator& communicator) {
    Progress progress;
    const Heartbeat heartbeat(communicator, progress,
                              reports.options(milliseconds(400), milliseconds(4000)));
    steps(communicator, progress, 0, 1000);
  });
  EXPECT_EQ(reports.count(), 0u) << reports.lines[0];
}

TEST(Heartbeat, NamesTheStuckRankWithinItsLimit) {
  for (const int culprit : {0, 2}) {
    Reports reports;
    run_local(3, [&](Communicator& communicator) {
      Progress progress;
      const Heartbeat heartbeat(communicator, progress,
                                reports.options(milliseconds(400), milliseconds(4000)));
      steps(communicator, progress, 0, 20);
      progress.publish(Phase::kStep, 20);
      if (communicator.rank() == culprit) {
        const auto start = Clock::now();
        while (reports.count() == 0 && Clock::now() - start < milliseconds(2400))
          std::this_thread::sleep_for(milliseconds(5));
      }
      const Progress::Waiting waiting(progress);
      communicator.barrier();
    });
    ASSERT_EQ(reports.count(), 1u);
    EXPECT_TRUE(reports.lines[0].starts_with("error[76] rank " + std::to_string(culprit) + "/3 "))
        << reports.lines[0];
    EXPECT_NE(reports.lines[0].find("in phase step"), std::string::npos);
  }
}

TEST(Heartbeat, AStepMayLastAsLongAsTheRunAllows) {
  Reports reports;
  run_local(2, [&](Communicator& communicator) {
    Progress progress;
    progress.allow(5.0);
    const Heartbeat heartbeat(communicator, progress,
                              reports.options(milliseconds(200), milliseconds(200)));
    steps(communicator, progress, 0, 5);
    std::this_thread::sleep_for(milliseconds(900));
    steps(communicator, progress, 5, 10);
  });
  EXPECT_EQ(reports.count(), 0u) << reports.lines[0];
}

TEST(Heartbeat, SoMayAnyOtherPhase) {
  for (const double seconds : {0.0, 5.0}) {
    Reports reports;
    run_local(2, [&](Communicator& communicator) {
      Progress progress;
      progress.allow(seconds);
      const Heartbeat heartbeat(communicator, progress,
                                reports.options(milliseconds(200), milliseconds(200)));
      for (const Phase phase : {Phase::kInit, Phase::kEval}) {
        progress.publish(phase, 1);
        std::this_thread::sleep_for(milliseconds(600));
        communicator.barrier();
      }
    });
    EXPECT_EQ(reports.count(), 0u) << reports.lines[0];
  }
}

TEST(Heartbeat, ALongPhaseOfOneRankIsNoAlarm) {
  Reports reports;
  run_local(2, [&](Communicator& communicator) {
    Progress progress;
    const Heartbeat heartbeat(communicator, progress,
                              reports.options(milliseconds(200), milliseconds(5000)));
    steps(communicator, progress, 0, 5);
    if (communicator.rank() == 0) {
      progress.publish(Phase::kCheckpoint, 5);
      std::this_thread::sleep_for(milliseconds(900));
    }
    steps(communicator, progress, 5, 10);
  });
  EXPECT_EQ(reports.count(), 0u) << reports.lines[0];
}

TEST(Heartbeat, SlowStepsRaiseTheirOwnLimit) {
  Reports reports;
  run_local(2, [&](Communicator& communicator) {
    Progress progress;
    const Heartbeat heartbeat(communicator, progress,
                              reports.options(milliseconds(250), milliseconds(5000)));
    progress.publish(Phase::kInit, 0);
    std::this_thread::sleep_for(milliseconds(300));  // the first step counts as init
    for (int step = 1; step < 5; ++step) {
      progress.publish(Phase::kStep, step);
      std::this_thread::sleep_for(milliseconds(290));
    }
  });
  EXPECT_EQ(reports.count(), 0u) << reports.lines[0];
}

TEST(Heartbeat, ARankThatEndsEarlyIsNotMissed) {
  Reports reports;
  run_local(3, [&](Communicator& communicator) {
    Progress progress;
    {
      const Heartbeat heartbeat(communicator, progress,
                                reports.options(milliseconds(200), milliseconds(200)));
      for (int i = 0; i < (communicator.rank() == 1 ? 1 : 80); ++i) {
        progress.publish(Phase::kEnd, i);
        std::this_thread::sleep_for(milliseconds(10));
      }
    }
    communicator.barrier();
  });
  EXPECT_EQ(reports.count(), 0u) << reports.lines[0];
}

TEST(Heartbeat, OneRankNeedsNone) {
  const auto single = single_communicator();
  Progress progress;
  const auto start = Clock::now();
  { const Heartbeat heartbeat(*single, progress, {}); }
  EXPECT_LT(Clock::now() - start, milliseconds(100));
}

TEST(Heartbeat, ThrowingRanksDoNotHang) {
  EXPECT_THROW(run_local(3,
                         [&](Communicator& communicator) {
                           Progress progress;
                           const Heartbeat heartbeat(communicator, progress, {});
                           if (communicator.rank() == 1) fail(ExitCode::kData, "bad");
                           communicator.barrier();
                         }),
               Error);
}

}  // namespace
}  // namespace comm
