#include "trainer/optim/schedule.h"

#include <gtest/gtest.h>

namespace trainer {
namespace {

RunLength length_of(std::int64_t total, double steps_per_epoch = 1, bool in_epochs = false) {
  return {total, steps_per_epoch, in_epochs};
}

TEST(LearningRate, ConstantIsOne) {
  for (std::int64_t step : {0, 5, 99, 100}) {
    EXPECT_DOUBLE_EQ(learning_rate_factor({}, step, length_of(100)), 1.0);
  }
}

TEST(LearningRate, WarmUpIsLinearFromItsFactor) {
  ScheduleConfig schedule;
  schedule.warmup_steps = 1000;
  EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 0, length_of(5000)), 0.001);
  EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 500, length_of(5000)), 0.5005);
  EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 999, length_of(5000)), 0.999001);
  EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 1000, length_of(5000)), 1.0);
}

TEST(LearningRate, StepsAtMilestonesInSteps) {
  ScheduleConfig schedule;
  schedule.type = ScheduleType::kStep;
  schedule.milestones = {10, 20};
  const auto at = [&](std::int64_t step) {
    return learning_rate_factor(schedule, step, length_of(30, 4.0));
  };
  EXPECT_DOUBLE_EQ(at(9), 1.0);
  EXPECT_DOUBLE_EQ(at(10), 0.1);
  EXPECT_DOUBLE_EQ(at(19), 0.1);
  EXPECT_NEAR(at(20), 0.01, 1e-17);
}

// 61 images in batches of 8: epoch 16 ends inside step 122 (16 x 7.625 = 122).
TEST(LearningRate, StepsAtMilestonesInEpochs) {
  ScheduleConfig schedule;
  schedule.type = ScheduleType::kStep;
  schedule.milestones = {16, 22};
  schedule.gamma = 0.5;
  const auto at = [&](std::int64_t step) {
    return learning_rate_factor(schedule, step, length_of(199, 7.625, true));
  };
  EXPECT_DOUBLE_EQ(at(121), 1.0);
  EXPECT_DOUBLE_EQ(at(122), 0.5);
  EXPECT_DOUBLE_EQ(at(167), 0.5);  // 22 x 7.625 = 167.75
  EXPECT_DOUBLE_EQ(at(168), 0.25);
}

TEST(LearningRate, WarmUpMultipliesTheSchedule) {
  ScheduleConfig schedule;
  schedule.type = ScheduleType::kStep;
  schedule.milestones = {2};
  schedule.warmup_steps = 4;
  schedule.warmup_factor = 0.5;
  EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 1, length_of(9)), 0.625);
  EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 3, length_of(9)), 0.1 * 0.875);
}

TEST(LearningRate, PolynomialFallsToItsFloor) {
  ScheduleConfig schedule;
  schedule.type = ScheduleType::kPoly;
  schedule.power = 2.0;
  EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 0, length_of(100)), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 50, length_of(100)), 0.25);
  EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 100, length_of(100)), 0.0);
  EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 150, length_of(100)), 0.0);
  schedule.min_factor = 0.2;
  EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 50, length_of(100)), 0.4);
  schedule.min_factor = 0;
  schedule.power = 0.9;  // torchvision's segmentation recipe: 0.75^0.9
  EXPECT_NEAR(learning_rate_factor(schedule, 25, length_of(100)), 0.7719, 5e-5);
}

TEST(LearningRate, CosineFallsToItsFloor) {
  ScheduleConfig schedule;
  schedule.type = ScheduleType::kCosine;
  EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 0, length_of(60)), 1.0);
  EXPECT_NEAR(learning_rate_factor(schedule, 20, length_of(60)), 0.75, 1e-15);  // cos 60 deg
  EXPECT_NEAR(learning_rate_factor(schedule, 30, length_of(60)), 0.5, 1e-15);
  EXPECT_NEAR(learning_rate_factor(schedule, 60, length_of(60)), 0.0, 1e-15);
  schedule.min_factor = 0.1;
  EXPECT_NEAR(learning_rate_factor(schedule, 40, length_of(60)), 0.1 + 0.9 * 0.25, 1e-15);
}

TEST(Decay, LambdaMovesToItsEnd) {
  RegularizationConfig config;
  config.end_factor = 0.2;
  EXPECT_DOUBLE_EQ(decay_factor(config, 7, length_of(10)), 1.0);
  config.schedule = DecaySchedule::kLinear;
  EXPECT_DOUBLE_EQ(decay_factor(config, 0, length_of(10)), 1.0);
  EXPECT_DOUBLE_EQ(decay_factor(config, 5, length_of(10)), 0.6);
  EXPECT_DOUBLE_EQ(decay_factor(config, 20, length_of(10)), 0.2);
  config.schedule = DecaySchedule::kCosine;
  EXPECT_NEAR(decay_factor(config, 20, length_of(60)), 0.2 + 0.8 * 0.75, 1e-15);
  config.end_factor = 3;  // growing is allowed
  EXPECT_NEAR(decay_factor(config, 60, length_of(60)), 3.0, 1e-15);
}

}  // namespace
}  // namespace trainer
