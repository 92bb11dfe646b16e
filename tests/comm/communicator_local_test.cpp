#include "comm/communicator_local.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

#include "tests/comm/communicator_contract.h"

namespace comm {
namespace {

class LocalContract : public testing::TestWithParam<std::tuple<contract::Named, int>> {};

TEST_P(LocalContract, Holds) {
  const auto& [named, size] = GetParam();
  run_local(size, named.check);
}

INSTANTIATE_TEST_SUITE_P(All, LocalContract,
                         testing::Combine(testing::ValuesIn(contract::kAll), testing::Range(1, 9)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_on_" +
                                  std::to_string(std::get<1>(info.param));
                         });

ExitCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return ExitCode::kDone;
}

TEST(LocalCommunicator, ARankThatThrowsWakesItsPeers) {
  for (int verb = 0; verb < 3; ++verb) {
    std::atomic<int> lost{0};
    const auto code = code_of([&] {
      run_local(4, [&](Communicator& communicator) {
        if (communicator.rank() == 2) fail(ExitCode::kData, "bad image");
        std::vector<float> data(8);
        const Message receive{2, data};
        const auto wait = [&] {
          if (verb == 0) communicator.barrier();
          if (verb == 1) communicator.exchange({}, {&receive, 1}, 0)->wait();
          if (verb == 2) communicator.all_gather(data)->wait();
        };
        lost += code_of(wait) == ExitCode::kPeerLost;
      });
    });
    EXPECT_EQ(code, ExitCode::kData);
    EXPECT_EQ(lost, 3) << verb;
  }
}

TEST(LocalCommunicator, MessagesSentBeforeLeavingArrive) {
  run_local(2, [](Communicator& communicator) {
    std::vector<float> data(4, static_cast<float>(communicator.rank()));
    const Message message{1 - communicator.rank(), data};
    if (communicator.rank() == 1)
      communicator.exchange({&message, 1}, {}, 0)->wait();
    else
      communicator.exchange({}, {&message, 1}, 0)->wait();
    EXPECT_EQ(data, std::vector<float>(4, 1));
  });
}

TEST(LocalCommunicator, AbortInAPartEndsTheWholeRun) {
  std::atomic<int> lost{0};
  const auto code = code_of([&] {
    run_local(4, [&](Communicator& communicator) {
      const auto part = communicator.split(communicator.rank() / 2);
      if (communicator.rank() == 0) part->abort(ExitCode::kDiverged);
      if (communicator.rank() == 3) {  // waits in the other part, for one who waits in the whole
        lost += code_of([&] { part->barrier(); }) == ExitCode::kPeerLost;
      } else {
        lost += code_of([&] { communicator.barrier(); }) == ExitCode::kPeerLost;
      }
    });
  });
  EXPECT_EQ(code, ExitCode::kDiverged);
  EXPECT_EQ(lost, 3);
}

TEST(LocalCommunicator, MessageOfAnotherLengthIsABug) {
  EXPECT_EQ(code_of([] {
              run_local(2, [](Communicator& communicator) {
                std::vector<float> data(communicator.rank() == 0 ? 3 : 4);
                const Message message{1 - communicator.rank(), data};
                communicator.exchange({&message, 1}, {&message, 1}, 0)->wait();
              });
            }),
            ExitCode::kBug);
}

TEST(LocalCommunicator, OtherExceptionsPassThrough) {
  EXPECT_THROW(run_local(3,
                         [](Communicator& communicator) {
                           if (communicator.rank() == 1) throw std::logic_error("x");
                           communicator.barrier();
                         }),
               std::logic_error);
}

TEST(SingleCommunicator, AbortEndsTheProcessWithTheCode) {
  EXPECT_EXIT(single_communicator()->abort(ExitCode::kDiverged), testing::ExitedWithCode(79), "");
}

}  // namespace
}  // namespace comm
