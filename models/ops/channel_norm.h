#pragma once

#include <cmath>

#include "models/ops/channel_sums.h"

// Bodies of normalisations over channels on a GPU: a piece of one channel a thread, sums in double
// (channel_sums.h), elements in their own type.
namespace models {

// sum x and sum x^2: exact enough in double for any mean below 10^6 standard deviations
template <typename T>
struct SumAndSquares {
  const T* x;
  RIDGELINE_HD void operator()(std::int64_t e, std::int64_t, double* sums) const {
    const double value = float{x[e]};
    sums[0] += value;
    sums[1] += value * value;
  }
};

// sum dy and sum dy (x - mean)
template <typename T>
struct SumAndProjection {
  const T *x, *dy;
  const float* mean;  // (C)
  RIDGELINE_HD void operator()(std::int64_t e, std::int64_t c, double* sums) const {
    const double d = float{dy[e]};
    sums[0] += d;
    sums[1] += d * (x[e] - mean[c]);
  }
};

// y = (x - mean) / sigma gamma + beta
template <typename T>
struct Normalise {
  ChannelRows rows;
  const T* x;
  const float *gamma, *beta, *mean, *variance;  // (C)
  T* y;
  float eps;
  RIDGELINE_HD void operator()(std::int64_t piece) const {
    const std::int64_t c = rows.channel(piece);
    const float center = mean[c], shift = beta[c];
    const auto scale = static_cast<float>(gamma[c] / std::sqrt(double{variance[c]} + eps));
    rows.visit(piece, [&](std::int64_t e) { y[e] = (x[e] - center) * scale + shift; });
  }
};

}  // namespace models
