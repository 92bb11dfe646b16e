#pragma once

#include <functional>

#include "models/graph/plan.h"

namespace trainer {

// Lower bound of a step made of given convolutions: each pass of each, alone on the machine, as
// the fastest primitive for its shape.
struct FloorTimes {
  double seconds = 0;         // best of direct and Winograd
  double direct_seconds = 0;  // direct alone: the bound of runtime.conv: direct
  int convolutions = 0;
};

// Times every distinct convolution of a training plan, minimum over several runs. `alive` is called
// between two of them.
FloorTimes floor_of(const models::Plan& plan, const std::function<void()>& alive);

}  // namespace trainer
