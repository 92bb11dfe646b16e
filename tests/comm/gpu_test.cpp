#include "comm/gpu.h"

#include <gmock/gmock.h>

#include "comm/build.h"

namespace comm {
namespace {

TEST(Gpu, ASurveyFindsGpusOrSaysWhyNot) {
  const GpuSurvey survey = survey_gpus();
  EXPECT_EQ(survey.gpus.empty(), !survey.problem.empty());
  for (const Gpu& gpu : survey.gpus) {
    EXPECT_THAT(gpu.name, testing::Not(testing::IsEmpty()));
    EXPECT_THAT(gpu.uuid, testing::MatchesRegex("[0-9a-f]{32}"));
    EXPECT_GE(gpu.capability, 30);
    const std::int64_t free = free_gpu_bytes(gpu);
    EXPECT_GT(free, 0);
    EXPECT_LE(free, gpu.memory_bytes);
  }
  if (survey.driver == 0) {
    EXPECT_THAT(survey.problem, testing::HasSubstr("driver"));
  }
}

TEST(Gpu, LibrariesAreThoseOfTheBuild) {
  const GpuLibraries libraries = gpu_libraries();
  EXPECT_EQ(libraries.runtime != 0, kHasCuda);
  EXPECT_LE(libraries.cudnn != 0, kHasCuda);
  EXPECT_LE(libraries.nccl != 0, kHasNccl);
}

TEST(Gpu, VersionsAreReadable) {
  EXPECT_EQ(cuda_version_text(13000), "13.0");
  EXPECT_EQ(cuda_version_text(12080), "12.8");
}

}  // namespace
}  // namespace comm
