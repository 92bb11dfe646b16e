#pragma once

#include <cmath>

#include "models/ops/channel_sums.h"

// Bodies of normalisations over channels on a GPU (channel_sums.h): sums in fp32 over a piece and
// in double over pieces, elements in their own type.
namespace models {

// sum (x - p) and sum (x - p)^2, p the first element of the channel: a mean that is large beside
// the deviations leaves fp32 their digits.
template <typename T>
struct SumAndSquares {
  ChannelRows rows;
  const T* x;
  template <int N>
  RIDGELINE_HD comm::Pack<T, N> of(std::int64_t c, comm::Lanes<N> lanes) const {
    return comm::load(x + rows.element(0, c), lanes);
  }
  template <int N>
  RIDGELINE_HD comm::Pack<T, N> load(std::int64_t e, comm::Lanes<N> lanes) const {
    return comm::load(x + e, lanes);
  }
  template <int N>
  RIDGELINE_HD void take(std::int64_t, const comm::Pack<T, N>& first,
                         const comm::Pack<T, N>& values, comm::Pack<float, N>* sums) const {
    comm::each(comm::Lanes<N>{}, [&](int k) {
      const float value = float{values[k]} - float{first[k]};
      sums[0][k] += value;
      sums[1][k] += value * value;
    });
  }
};

// Mean and biased variance of a channel from its SumAndSquares.
struct ChannelMoments {
  double mean, variance;
  template <typename T>
  RIDGELINE_HD ChannelMoments(const SumAndSquares<T>& of, std::int64_t c, const double* sums) {
    const auto count = static_cast<double>(of.rows.rows());
    const double m = sums[0] / count, v = sums[1] / count - m * m;
    mean = float{of.x[of.rows.element(0, c)]} + m;
    variance = v > 0 ? v : 0;
  }
};

// sum dz and sum dz (x - mean), dz = dy [y > 0] where y is given
template <typename T>
struct SumAndProjection {
  const T *x, *dy;
  const float* mean;     // (C)
  const T* y = nullptr;  // may be null
  template <int N>
  struct Loaded {
    comm::Pack<T, N> x, dy, y;
  };
  template <int N>
  RIDGELINE_HD comm::Pack<float, N> of(std::int64_t c, comm::Lanes<N> lanes) const {
    return comm::load(mean + c, lanes);
  }
  template <int N>
  RIDGELINE_HD Loaded<N> load(std::int64_t e, comm::Lanes<N> lanes) const {
    Loaded<N> in;
    in.x = comm::load(x + e, lanes);
    in.dy = comm::load(dy + e, lanes);
    if (y) in.y = comm::load(y + e, lanes);
    return in;
  }
  template <int N>
  RIDGELINE_HD void take(std::int64_t, const comm::Pack<float, N>& center, const Loaded<N>& in,
                         comm::Pack<float, N>* sums) const {
    comm::each(comm::Lanes<N>{}, [&](int k) {
      const float d = y && !(in.y[k] > 0.0f) ? 0.0f : float{in.dy[k]};
      sums[0][k] += d;
      sums[1][k] += d * (in.x[k] - center[k]);
    });
  }
};

// y = relu((x - center) scale + shift + residual)
template <typename T>
struct Normalise {
  const T* x;
  const float *center, *scale, *shift;  // (C)
  T* y;
  const T* residual = nullptr;  // may be null
  bool relu = false;

  template <int N>
  struct Channels {
    comm::Pack<float, N> center, scale, shift;
  };
  template <int N>
  struct Loaded {
    comm::Pack<T, N> x, residual;
  };
  template <int N>
  RIDGELINE_HD Channels<N> of(std::int64_t c, comm::Lanes<N> lanes) const {
    return {comm::load(center + c, lanes), comm::load(scale + c, lanes),
            comm::load(shift + c, lanes)};
  }
  template <int N>
  RIDGELINE_HD Loaded<N> load(std::int64_t e, comm::Lanes<N> lanes) const {
    Loaded<N> in;
    in.x = comm::load(x + e, lanes);
    if (residual) in.residual = comm::load(residual + e, lanes);
    return in;
  }
  template <int N>
  RIDGELINE_HD void take(std::int64_t e, const Channels<N>& of, const Loaded<N>& in,
                         comm::Pack<float, N>*) const {
    comm::Pack<float, N> to;
    comm::each(comm::Lanes<N>{}, [&](int k) {
      float value = (in.x[k] - of.center[k]) * of.scale[k] + of.shift[k];
      if (residual) value += in.residual[k];
      to[k] = relu && !(value > 0.0f) ? 0.0f : value;
    });
    comm::store(y + e, to);
  }
};

}  // namespace models
