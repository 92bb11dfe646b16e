#include "models/ops/conv2d_times.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace models {
namespace {

ConvProblem problem(std::int64_t channels, std::int64_t size) {
  return {{1, channels, size, size},
          {channels, channels, 3, 3},
          {1, channels, size, size},
          {.padding = 1},
          true,
          true};
}

TEST(Conv2dTimes, BestIsNeverSlowerThanDirect) {
  const ConvTimes times = time_conv2d(problem(64, 32), 2);
  EXPECT_GT(times.best, 0);
  EXPECT_LE(times.best, times.direct);
  EXPECT_TRUE(std::isfinite(times.direct));
}

TEST(Conv2dTimes, CountsOnlyThePassesAskedFor) {
  ConvProblem forward = problem(64, 64);
  forward.data_gradient = forward.weight_gradient = false;
  EXPECT_LT(time_conv2d(forward, 5).direct, time_conv2d(problem(64, 64), 5).direct);
}

TEST(Conv2dTimes, GroupedAndDilatedConvolutionsExist) {
  ConvProblem grouped = problem(64, 16);
  grouped.weight = {64, 16, 3, 3};
  grouped.attributes.groups = 4;
  EXPECT_TRUE(std::isfinite(time_conv2d(grouped, 1).best));
  ConvProblem dilated = problem(32, 16);
  dilated.attributes.padding = dilated.attributes.dilation = 2;
  EXPECT_TRUE(std::isfinite(time_conv2d(dilated, 1).best));
}

TEST(Conv2dTimes, EqualProblemsAreOneKey) {
  std::map<ConvProblem, int> counts;
  ++counts[problem(32, 16)];
  ++counts[problem(32, 16)];
  ++counts[problem(64, 16)];
  ConvProblem strided = problem(32, 16);
  strided.attributes.stride = 2;
  ++counts[strided];
  EXPECT_EQ(counts.size(), 3u);
  EXPECT_EQ(counts.at(problem(32, 16)), 2);
}

}  // namespace
}  // namespace models
