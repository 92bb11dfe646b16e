#include "trainer/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace trainer {
namespace {

double half_cosine(double progress) { return 0.5 * (1.0 + std::cos(std::numbers::pi * progress)); }

}  // namespace

double learning_rate_factor(const ScheduleConfig& schedule, std::int64_t step,
                            const RunLength& length) {
  const double progress =
      std::min(1.0, static_cast<double>(step) / static_cast<double>(length.total_steps));
  const double floor = schedule.min_factor;
  double factor = 1.0;
  switch (schedule.type) {
    case ScheduleType::kConstant: break;
    case ScheduleType::kStep: {
      const double unit = length.milestones_in_epochs ? length.steps_per_epoch : 1.0;
      for (std::int64_t milestone : schedule.milestones) {
        if (static_cast<double>(step) >= static_cast<double>(milestone) * unit) {
          factor *= schedule.gamma;
        }
      }
      break;
    }
    case ScheduleType::kPoly:
      factor = floor + (1.0 - floor) * std::pow(1.0 - progress, schedule.power);
      break;
    case ScheduleType::kCosine: factor = floor + (1.0 - floor) * half_cosine(progress); break;
  }
  if (step < schedule.warmup_steps) {
    const double part = static_cast<double>(step) / static_cast<double>(schedule.warmup_steps);
    factor *= schedule.warmup_factor + (1.0 - schedule.warmup_factor) * part;
  }
  return factor;
}

double decay_factor(const RegularizationConfig& regularization, std::int64_t step,
                    const RunLength& length) {
  const double progress =
      std::min(1.0, static_cast<double>(step) / static_cast<double>(length.total_steps));
  const double end = regularization.end_factor;
  switch (regularization.schedule) {
    case DecaySchedule::kConstant: return 1.0;
    case DecaySchedule::kLinear: return 1.0 + (end - 1.0) * progress;
    case DecaySchedule::kCosine: return end + (1.0 - end) * half_cosine(progress);
  }
  return 1.0;
}

}  // namespace trainer
