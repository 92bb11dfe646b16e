#pragma once

#include <cstdint>

#include "comm/parallel.h"
#include "models/graph/element.h"

// Sweeps over tensors of equal physical order, shared by the small ops.
namespace models {

inline constexpr std::int64_t kSweep = 16384;  // elements a piece: 64 KiB, stays in L2

template <class Body>
struct EachElement {
  Body body;
  RIDGELINE_HD void operator()(std::int64_t i) const { body(i, i + 1); }
};

// body(begin, end) over all n elements: long ranges for the vectors of a CPU; on a GPU one element
// a thread, so that neighbouring threads read neighbouring elements.
template <class Body>
void sweep(comm::StreamView stream, std::int64_t n, const Body& body) {
  if (stream.on_cpu()) return comm::parallel_for_blocks(stream, n, kSweep, body);
  comm::parallel_for(stream, n, EachElement<Body>{body});
}

template <class Body>
struct EachOfRow {
  Body body;
  std::int64_t columns;
  RIDGELINE_HD void operator()(std::int64_t i) const { body(i / columns, i % columns); }
};

// body(row) for every row on a CPU, which takes vectors of it; on a GPU body(row, column) for every
// element. `grain`: in rows.
template <class Body>
void sweep_rows(comm::StreamView stream, std::int64_t rows, std::int64_t columns, const Body& body,
                std::int64_t grain) {
  if (stream.on_cpu()) return comm::parallel_for(stream, rows, body, grain);
  comm::parallel_for(stream, rows * columns, EachOfRow<Body>{body, columns});
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
