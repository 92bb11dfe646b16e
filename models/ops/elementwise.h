#pragma once

#include <cstdint>

#include "comm/parallel.h"
#include "models/graph/element.h"

// Sweeps over tensors of equal physical order, shared by the small ops.
namespace models {

inline constexpr std::int64_t kSweep = 16384;  // elements a piece: 64 KiB, stays in L2

// body(begin, end) over all n elements; on a GPU over one each.
template <class Body>
void sweep(comm::StreamView stream, std::int64_t n, const Body& body) {
  comm::parallel_for_blocks(stream, n, kSweep, body);
}

// body(i, lanes) over all n elements (parallel_for_vectors); on a GPU 16 bytes of T a thread.
template <typename T, class Body>
void sweep_vectors(comm::StreamView stream, std::int64_t n, const Body& body,
                   std::initializer_list<const void*> pointers) {
  comm::parallel_for_vectors<comm::kVectorLanes<T>>(stream, n, kSweep, body, pointers);
}

// to (+)= from, as `mode` says. REQUIRES: equal types.
void give_gradient(comm::StreamView stream, const Tensor& from, const Tensor& to,
                   GradientMode mode);

// A gradient per channel, fp32: where, and how.
struct Target {
  float* data;
  GradientMode mode;
  RIDGELINE_HD void give(std::int64_t i, double value) const {
    if (mode == GradientMode::kNone) return;
    const auto v = static_cast<float>(value);
    data[i] = mode == GradientMode::kAccumulate ? data[i] + v : v;
  }
};

// Channel of physical element i of a rank-4 tensor.
RIDGELINE_HD inline std::int64_t channel_of(std::int64_t i, const Shape& shape, int block) {
  const std::int64_t plane = shape[2] * shape[3] * block;
  const std::int64_t blocks = (shape[1] + block - 1) / block;
  return i / plane % blocks * block + i % block;
}

}  // namespace models
