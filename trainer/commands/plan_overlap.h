#pragma once

#include <string>
#include <vector>

#include "models/graph/plan.h"

namespace trainer {

// What the exchange of one bucket can hide behind, counted in the FLOPs of the plan's convolutions
// and matrix products.
struct BucketOverlap {
  double backward_left = 0;  // share of the backward pass after its gradients are there
  double forward_done = 0;   // share of the next forward pass before its parameters are read
};
// REQUIRES: a training plan.
std::vector<BucketOverlap> overlaps_of(const models::Plan& plan);

// A line a bucket: what a rank sends ((W - 1) / W of the bucket for each of its `sums_sent` sums of
// gradients, and once for parameters), and what goes on meanwhile.
std::string overlap_text(const models::Plan& plan, std::int64_t sums_sent);

}  // namespace trainer
