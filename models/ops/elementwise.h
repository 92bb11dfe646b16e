#pragma once

#include <cstdint>

#include "comm/parallel.h"
#include "models/graph/op.h"

// Sweeps over tensors of equal physical order, shared by the small ops.
namespace models {

inline constexpr std::int64_t kSweep = 16384;  // elements a piece: 64 KiB, stays in L2

// to (+)= from, as `mode` says.
void give_gradient(comm::StreamView stream, const Tensor& from, const Tensor& to,
                   GradientMode mode);

// Channel of physical element i of a rank-4 tensor.
RIDGELINE_HD inline std::int64_t channel_of(std::int64_t i, const Shape& shape, int block) {
  const std::int64_t plane = shape[2] * shape[3] * block;
  const std::int64_t blocks = (shape[1] + block - 1) / block;
  return i / plane % blocks * block + i % block;
}

}  // namespace models
