#include "trainer/optim/norm_clip.h"

#include <gtest/gtest.h>

#include <limits>

#include "comm/gpu.h"
#include "trainer/optim/host_mirror.h"

namespace trainer {
namespace {

TEST(ClipFactor, IsAtMostOneAndPyTorchs) {
  EXPECT_EQ(clip_factor(5, 16), 1.0f);
  EXPECT_EQ(clip_factor(4, 16), static_cast<float>(4 / (4 + 1e-6)));
  EXPECT_EQ(clip_factor(1, 16), static_cast<float>(1 / (4 + 1e-6)));
  EXPECT_EQ(clip_factor(1, 0), 1.0f);
}

// Such a step has diverged; the update sees that for itself.
TEST(ClipFactor, OfWhatIsNotFiniteIsFinite) {
  EXPECT_EQ(clip_factor(1, std::numeric_limits<double>::infinity()), 0.0f);
  EXPECT_EQ(clip_factor(1, std::numeric_limits<double>::quiet_NaN()), 1.0f);
}

class NormClipOn : public ::testing::TestWithParam<comm::DeviceKind> {
 protected:
  void SetUp() override {
    if (GetParam() == comm::DeviceKind::kCpu) return;
    if (comm::gpu_libraries().runtime == 0) GTEST_SKIP() << "this program has no CUDA";
    const comm::GpuSurvey survey = comm::survey_gpus();
    if (survey.gpus.empty()) GTEST_SKIP() << survey.problem;
  }
  // The factor for squared norms of blocks that belong to `segments`.
  float factor(double max_norm, const std::vector<std::int32_t>& segments, std::size_t num_segments,
               const std::vector<double>& squares) {
    const comm::Device device{GetParam(), 0};
    const comm::Stream stream(device);
    const comm::Buffer sums(device, squares.size() * sizeof(BlockSums)),
        step(device, sizeof(StepScalars));
    const HostMirror host_sums(sums), host_step(step);
    for (std::size_t b = 0; b < squares.size(); ++b)
      host_sums.as<BlockSums>()[b] = {squares[b], -1, -1, -1};
    host_step.as<StepScalars>()[0] = {7, 8, 9};
    host_sums.store(stream);
    host_step.store(stream);
    const NormClip clip(stream, max_norm, segments, num_segments);
    clip.launch(stream, sums.as<BlockSums>(), step.as<StepScalars>().data());
    host_step.fetch(stream);
    stream.view().synchronize();
    const StepScalars found = host_step.as<StepScalars>()[0];
    EXPECT_EQ(found.correction1, 8);  // the others stay
    EXPECT_EQ(found.root2, 9);
    return found.clip;
  }
};

TEST_P(NormClipOn, IsOfTheNormOfAllTensors) {
  EXPECT_EQ(factor(2, {0, 0, 2}, 3, {9, 7, 9}), clip_factor(2, 25));
  EXPECT_EQ(factor(5, {1, 0}, 2, {4, 12}), 1.0f);
  EXPECT_EQ(factor(1, {}, 2, {}), 1.0f);
}

// Blocks in their order, then tensors in theirs: sums in which 16 is lost, or is not.
TEST_P(NormClipOn, AddsInTheOrderOfTensors) {
  const double big = 1e30;
  EXPECT_EQ(factor(2, {0, 0, 0}, 1, {big, 16, -big}), 1.0f);
  EXPECT_EQ(factor(2, {0, 0, 0}, 1, {big, -big, 16}), clip_factor(2, 16));
  EXPECT_EQ(factor(2, {1, 0, 0}, 2, {16, big, -big}), clip_factor(2, 16));
  EXPECT_EQ(factor(2, {2, 0, 1}, 3, {-big, 16, big}), 1.0f);
}

INSTANTIATE_TEST_SUITE_P(Devices, NormClipOn,
                         ::testing::Values(comm::DeviceKind::kCpu, comm::DeviceKind::kCuda),
                         [](const auto& info) {
                           return info.param == comm::DeviceKind::kCpu ? "Cpu" : "Gpu";
                         });

}  // namespace
}  // namespace trainer
