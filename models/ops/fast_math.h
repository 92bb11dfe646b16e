#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "comm/parallel.h"

// Elementary functions in plain arithmetic, so that loops over them vectorise and give the same
// bits on every lane width. Error below 2 ulp (exponential) and 4 ulp (the others).
namespace models {

// exp(x) for x <= 0: 2^k e^r with |r| <= ln2 / 2, degree-7 Taylor. Below -87: 0.
RIDGELINE_HD inline float exp_of_negative(float x) {
  const float clamped = x < -87.0f ? -87.0f : x;
  const float k = std::nearbyint(clamped * 1.44269504f);
  const float r = std::fma(k, 2.12194440e-4f, std::fma(k, -0.693359375f, clamped));
  float p = 1.0f / 5040.0f;
  p = std::fma(p, r, 1.0f / 720.0f);
  p = std::fma(p, r, 1.0f / 120.0f);
  p = std::fma(p, r, 1.0f / 24.0f);
  p = std::fma(p, r, 1.0f / 6.0f);
  p = std::fma(p, r, 0.5f);
  p = std::fma(p, r, 1.0f);
  p = std::fma(p, r, 1.0f);
  const auto bits = static_cast<std::uint32_t>((static_cast<std::int32_t>(k) + 127) << 23);
  return x < -87.0f ? 0.0f : p * std::bit_cast<float>(bits);
}

// log(1 + z) for z in [0, 1]: 2 atanh(s), s = z / (2 + z) <= 1/3; relative accuracy for small z.
RIDGELINE_HD inline float log1p_of_unit(float z) {
  const float s = z / (2.0f + z);
  const float t = s * s;
  float p = 1.0f / 15.0f;
  p = std::fma(p, t, 1.0f / 13.0f);
  p = std::fma(p, t, 1.0f / 11.0f);
  p = std::fma(p, t, 1.0f / 9.0f);
  p = std::fma(p, t, 1.0f / 7.0f);
  p = std::fma(p, t, 1.0f / 5.0f);
  p = std::fma(p, t, 1.0f / 3.0f);
  p = std::fma(p, t, 1.0f);
  return 2.0f * s * p;
}

// The parts of a sigmoid cross entropy: p = sigmoid(x), softplus(x) = log(1 + e^x) = -log(1 - p).
struct Sigmoid {
  float p;
  float q;  // 1 - p, without cancellation
  float softplus;
};
RIDGELINE_HD inline Sigmoid sigmoid_parts(float x) {
  const float z = exp_of_negative(x < 0.0f ? x : -x);  // e^-|x|
  const float small = z / (1.0f + z), large = 1.0f / (1.0f + z);
  return {x < 0.0f ? small : large, x < 0.0f ? large : small,
          (x > 0.0f ? x : 0.0f) + log1p_of_unit(z)};
}

}  // namespace models
