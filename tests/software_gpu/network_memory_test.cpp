// The memory of a GPU that a run is refused for, against what it takes.
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <regex>

#include "comm/communicator_local.h"
#include "tests/trainer/commands/command_fixture.h"
#include "trainer/network.h"
#include "trainer/optim/sharded_optimizer.h"

namespace trainer {
namespace {

constexpr comm::Device kGpu{comm::DeviceKind::kCuda, 0};
constexpr double kMib = 1 << 20;

double taken_mib() {
  return static_cast<double>(comm::allocated_bytes(comm::DeviceKind::kCuda)) / kMib;
}

class NetworkMemory : public ::testing::TestWithParam<const char*> {
 protected:
  void TearDown() override { unsetenv("SOFTWARE_GPU_MIB"); }

  void build() { network_.emplace(config_, 5, 3, stream_, NetworkOptions{}); }
  // Empty: a network was built. Else what it says to be the least.
  std::optional<double> least_on(int mib) {
    setenv("SOFTWARE_GPU_MIB", std::to_string(mib).c_str(), 1);
    try {
      build();
      return {};
    } catch (const comm::Error& error) {
      EXPECT_EQ(error.code(), comm::ExitCode::kDevice);
      const std::string text = error.what();
      std::smatch found;
      const bool says = std::regex_search(text, found, std::regex("at least ([0-9.]+) MiB"));
      EXPECT_TRUE(says) << text;
      return says ? std::stod(found[1]) : 0;
    }
  }

  const Config config_ = small_config(
      {"train.batch=8", "train.micro_batch=8", "data.size=[128,128]", "ema.decay=0.9",
       "optimizer={name: adamw, lr: 0.001}", "runtime.precision=" + std::string(GetParam())});
  const comm::Stream stream_{kGpu};
  std::optional<Network> network_;
};

TEST_P(NetworkMemory, IsRefusedForNothingThatARunDoesNotTake) {
  const double least = least_on(1).value();
  setenv("SOFTWARE_GPU_MIB", "8192", 1);
  build();
  const auto communicator = comm::single_communicator();
  OptimizerSetup setup{config_.optimizer, config_.regularization, config_.clip, config_.ema};
  ShardedOptimizer optimizer(network_->storage(), *communicator, stream_, setup);
  const comm::Buffer averages(kGpu, network_->storage().parameters.size_bytes());  // of a save
  const models::Executable& inference = network_->inference(0);
  const double workspaces = static_cast<double>(network_->training(0).workspace_bytes() +
                                                inference.workspace_bytes()) /
                            kMib;
  EXPECT_LT(least, taken_mib());
  // In fp32 most weights are packed as well, which is not known before.
  const double share = std::string(GetParam()) == "bf16" ? 0.95 : 0.75;
  EXPECT_GT(least, share * (taken_mib() - workspaces));
  // A save then takes nothing more.
  optimizer.make_mirrors();
  const std::int64_t allocations = comm::allocation_count();
  std::int64_t num_visited = 0;
  optimizer.for_each_state([&](auto&&...) { ++num_visited; });
  EXPECT_GT(num_visited, 0);
  EXPECT_EQ(comm::allocation_count(), allocations);
}

// What is certain fits, but not beside the workspaces of the plans, known when they are bound.
TEST_P(NetworkMemory, IsRefusedAgainForWorkspaces) {
  const double least = least_on(1).value();
  const std::optional<double> later = least_on(static_cast<int>(least) + 1);
  ASSERT_TRUE(later);
  EXPECT_LT(*later, least);
  EXPECT_FALSE(least_on(2 * static_cast<int>(least)));
}

INSTANTIATE_TEST_SUITE_P(Precisions, NetworkMemory, ::testing::Values("fp32", "bf16"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace trainer
