#pragma once

#include <cmath>
#include <cstdint>

#include "comm/build.h"
#include "models/graph/value.h"

namespace models {

// What a convolution's weights are made of: a frozen normalisation can be folded in exactly,
//   s = gamma / sqrt(variance + eps);  w'(o, ...) = s(o) w(o, ...);  shift = beta + s (b - mean)
struct WeightSource {
  Tensor weight;                       // (O, I / groups, R, S)
  Tensor bias;                         // (O) or null
  Tensor gamma, beta, mean, variance;  // (O) or all null
  float eps = 0.0f;
};

// s of a channel
RIDGELINE_HD inline float folding_scale(float gamma, float variance, float eps) {
  return gamma / std::sqrt(variance + eps);
}

// Writes s and shift of channel o. For any device.
struct Folding {
  const float *gamma, *beta, *mean, *variance, *bias;  // bias may be null
  float *scale, *shift;
  float eps;

  Folding(const WeightSource& source, float* to_scale, float* to_shift)
      : gamma(source.gamma.f32()),
        beta(source.beta.f32()),
        mean(source.mean.f32()),
        variance(source.variance.f32()),
        bias(source.bias.f32()),
        scale(to_scale),
        shift(to_shift),
        eps(source.eps) {}
  RIDGELINE_HD void operator()(std::int64_t o) const {
    const float s = folding_scale(gamma[o], variance[o], eps);
    scale[o] = s;
    shift[o] = beta[o] + s * ((bias ? bias[o] : 0.0f) - mean[o]);
  }
};

}  // namespace models
