#include "comm/signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "comm/error.h"

namespace comm {
namespace {

TEST(StopSignals, EachSignalIsARequest) {
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT}) {
    const StopSignals signals;
    EXPECT_FALSE(signals.requested());
    raise(signal);
    EXPECT_TRUE(signals.requested());
    EXPECT_EQ(signals.signal(), signal);
  }
}

TEST(StopSignals, TheSameRequestTwiceIsOne) {
  const StopSignals signals;
  raise(SIGUSR1);
  raise(SIGTERM);
  EXPECT_EQ(signals.signal(), SIGUSR1);
}

TEST(StopSignals, ASecondRequestEndsTheProcess) {
  const auto twice = [] {
    const StopSignals signals;
    raise(SIGINT);
    usleep(1'100'000);
    raise(SIGINT);
  };
  EXPECT_EXIT(twice(), testing::ExitedWithCode(75), "");
}

TEST(StopSignals, RestoresTheFormerHandler) {
  struct sigaction before {
  }, after{};
  sigaction(SIGTERM, nullptr, &before);
  { const StopSignals signals; }
  sigaction(SIGTERM, nullptr, &after);
  EXPECT_EQ(before.sa_handler, after.sa_handler);
}

TEST(StopSignals, OneAtATime) {
  const StopSignals signals;
  EXPECT_THROW(StopSignals(), Error);
}

}  // namespace
}  // namespace comm
