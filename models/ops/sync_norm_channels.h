#pragma once

#include <cmath>

#include "models/ops/elementwise.h"

// What the kernels of sync_norm do with a channel, on either device.
namespace models {

// The moments in force, (3, C): count, mean, biased variance.
struct SyncChannels {
  const float *moments, *gamma;
  std::int64_t count;  // C
  float eps;
  RIDGELINE_HD float mean(std::int64_t c) const { return moments[count + c]; }
  RIDGELINE_HD double rstd(std::int64_t c) const {
    return 1.0 / std::sqrt(double{moments[2 * count + c]} + eps);
  }
};

// What the running statistics get: mean and unbiased variance. One value has no unbiased variance;
// as in batch_norm it counts as its biased one.
struct SyncStatistics {
  SyncChannels of;
  float *mean, *unbiased;
  RIDGELINE_HD void operator()(std::int64_t c) const {
    const double n = of.moments[c];
    mean[c] = of.mean(c);
    unbiased[c] = static_cast<float>(of.moments[2 * of.count + c] * (n > 1 ? n / (n - 1) : 1.0));
  }
};

// With s = sum dy, p = sum dy (x - mean): dgamma = p / sigma, dbeta = s,
// dmean = -s gamma / sigma, dvariance = -p gamma / (2 sigma^3); the count is a constant.
struct SyncGradients {
  SyncChannels of;
  Target dmoments, dgamma, dbeta;
  RIDGELINE_HD void give(std::int64_t c, double s, double p) const {
    const double r = of.rstd(c), scaled = r * of.gamma[c];
    dgamma.give(c, p * r);
    dbeta.give(c, s);
    dmoments.give(c, 0);
    dmoments.give(of.count + c, -s * scaled);
    dmoments.give(2 * of.count + c, -0.5 * p * scaled * r * r);
  }
};

}  // namespace models
