#pragma once

#include <cstdint>

#include "trainer/config/config.h"

namespace trainer {

// How long a run is, in the units schedules use.
struct RunLength {
  std::int64_t total_steps = 1;
  double steps_per_epoch = 1;        // fractional: a batch may straddle epochs
  bool milestones_in_epochs = true;  // the run's length was given as train.epochs
};

// Factor on the base learning rate for the update numbered `step` (0 is the first).
//   warm-up  f = w + (1 - w) step / warmup_steps below warmup_steps (torchvision's LinearLR), times
//   step     gamma^(milestones reached);   poly  m + (1 - m) (1 - step / total)^power
//   cosine   m + (1 - m) (1 + cos(pi step / total)) / 2;   m = min_factor
double learning_rate_factor(const ScheduleConfig& schedule, std::int64_t step,
                            const RunLength& length);

// Factor on lambda: 1 to end_factor over the run, linearly or along a half cosine.
double decay_factor(const RegularizationConfig& regularization, std::int64_t step,
                    const RunLength& length);

}  // namespace trainer
