// A GPU and a CPU side by side, and faults that must be named.
#include "trainer/commands/parity.h"

#include <gmock/gmock.h>

#include <cmath>
#include <optional>

#include "comm/bf16.h"
#include "comm/communicator_local.h"
#include "comm/gpu.h"
#include "tests/trainer/commands/command_fixture.h"
#include "trainer/commands/parity_values.h"

namespace trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kFcn =
    "model={name: fcn, backbone: resnet18, head: 8s, dropout: 0.2, norm: group}";

class ParityRun : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (comm::gpu_libraries().runtime == 0 || comm::survey_gpus().gpus.empty()) {
      GTEST_SKIP() << "no GPU";
    }
    gpu_.emplace(comm::Device{comm::DeviceKind::kCuda, 0});
  }
  Parity parity(std::vector<std::string> overrides) {
    overrides.insert(overrides.end(), {"train.batch=2", "train.micro_batch=2", "data.size=[32,32]",
                                       "runtime.precision=" + std::string(GetParam())});
    return {small_config(overrides), {cpu_, *gpu_, *communicator_, progress_}};
  }
  void expect_agreement(const std::vector<std::string>& overrides, int steps) {
    const ParityResult result = parity(overrides).run(steps);
    EXPECT_EQ(result.steps, steps);
    EXPECT_GT(result.ops, 80);
    EXPECT_GT(result.gradients, 30);
    for (const Difference& difference : result.differing) ADD_FAILURE() << to_text(difference);
    EXPECT_GT(result.largest.distance, 0);
    EXPECT_LT(result.largest.distance, most());
    EXPECT_THAT(to_text(result), HasSubstr("agree; largest difference"));
    RecordProperty("largest", to_text(result.largest));
  }
  double most() const { return std::string(GetParam()) == "bf16" ? 2e-2 : 1e-4; }

  const std::unique_ptr<comm::Communicator> communicator_ = comm::single_communicator();
  comm::Progress progress_;
  const comm::Stream cpu_{comm::Device{}, 1};
  std::optional<comm::Stream> gpu_;
};

TEST_P(ParityRun, DetectorsAgree) { expect_agreement({}, 1); }

TEST_P(ParityRun, FoldedNormsAndAdamAgree) {
  expect_agreement({"model.norm=frozen", "optimizer={name: adamw, lr: 1.0e-4}"}, 1);
}

// The second step begins with weights that each device has updated itself.
TEST_P(ParityRun, NetworksOfPixelsAgree) { expect_agreement({kFcn}, 2); }

// One filter is another on the GPU: its convolution is named, and no other.
TEST_P(ParityRun, NamesTheOpThatDiffers) {
  Parity run = parity({kFcn});
  const comm::StreamView stream = gpu_->view();
  const models::Tensor filter = run.gpu().storage().parameter("backbone.layer2.0.conv1.weight");
  std::vector<float> values = read_values(stream, filter);
  for (float& value : values) value *= 1.5f;
  write_values(stream, filter, values);
  const ParityResult result = run.run(1);
  ASSERT_FALSE(result.differing.empty());
  EXPECT_THAT(to_text(result.differing[0]),
              AllOf(HasSubstr("step 1: backbone.layer2.0.conv1 (conv2d), output 0: 0.5 of"),
                    HasSubstr("at most")));
  // And what it passes back, and its update.
  for (const Difference& difference : result.differing)
    EXPECT_THAT(difference.where, HasSubstr("layer2.0.conv1"));
  EXPECT_THAT(to_text(result), AllOf(StartsWith("differs: step 1: "), HasSubstr("values differ")));
}

INSTANTIATE_TEST_SUITE_P(Precisions, ParityRun, testing::Values("fp32", "bf16"),
                         [](const auto& info) { return info.param; });

TEST(ParityValues, ComeInPlainOrderAndGoBack) {
  const comm::Stream stream(comm::Device{}, 1);
  std::vector<comm::Bf16> memory(2 * 3 * 2 * 2);
  const models::Tensor tensor{
      reinterpret_cast<std::byte*>(memory.data()), models::Type::kBF16, {2, 3, 2, 2}, 3};
  std::vector<float> values(memory.size());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  write_values(stream, tensor, values);
  EXPECT_EQ(float{memory[1]}, 4.0f);  // channel 1 of the first pixel
  EXPECT_EQ(read_values(stream, tensor), values);
  std::vector<std::int32_t> whole = {3, -1};
  const models::Tensor integers{
      reinterpret_cast<std::byte*>(whole.data()), models::Type::kI32, {2}};
  EXPECT_EQ(read_values(stream, integers), (std::vector<float>{3, -1}));
}

TEST(ParityValues, Distances) {
  EXPECT_EQ(relative_distance({1, 2}, {1, 2}), 0);
  EXPECT_EQ(relative_distance({0, 0}, {0, 0}), 0);
  EXPECT_DOUBLE_EQ(relative_distance({3, 3}, {3, 4}), 0.2);
  EXPECT_FALSE(relative_distance({NAN, 1}, {1, 1}) <= 1);
  EXPECT_FALSE(relative_distance({1e-9f, 0}, {0, 0}) <= 1);
  EXPECT_EQ(share_of_others({1, 2, 3, 4}, {1, 2, 3, 5}), 0.25);
}

TEST(ParityVerb, IsOfOneRank) {
  comm::run_local(2, [](comm::Communicator& communicator) {
    comm::Progress progress;
    try {
      run_parity(small_config(), 1, communicator, progress);
      ADD_FAILURE();
    } catch (const comm::Error& e) {
      EXPECT_EQ(e.code(), comm::ExitCode::kUsage);
    }
  });
}

}  // namespace
}  // namespace trainer
