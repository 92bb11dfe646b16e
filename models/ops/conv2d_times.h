#pragma once

#include "models/ops/conv2d.h"

namespace models {

// One convolution of a plan, as far as its speed depends on it.
struct ConvProblem {
  Shape x, weight, y;  // (N, I, H, W), (O, I / groups, R, S), (N, O, H', W')
  ConvAttributes attributes;
  bool data_gradient = false;
  bool weight_gradient = false;
  bool operator<(const ConvProblem& other) const;
};

// Seconds of the passes that the problem asks for, summed.
struct ConvTimes {
  double direct = 0;
  double best = 0;  // of direct and Winograd, chosen for each pass
};

// Times each pass alone: bare primitives of the CPU in the physical orders they like best, on the
// threads of this process, the minimum over `runs`. What `bench --floor` compares a step with;
// nothing is ever chosen by it.
ConvTimes time_conv2d(const ConvProblem& problem, int runs);

// "2.6.3", of the oneDNN library that is linked.
std::string onednn_version();

}  // namespace models
