#pragma once

#include <cstdint>

#include "models/graph/graph.h"

namespace models {

// Inverted dropout: y = x / (1 - p) with probability 1 - p, else 0. The mask is a function of
// (seed, epoch, sample, scope of the graph, index of the element in its sample's plain order):
// equal for any number of ranks and threads, any layout and any batch around the sample. It is
// recomputed in the backward pass, never stored.
//   x: f32 (N, ...) of any rank; sample_id: i64 (N); epoch: i32 (N); REQUIRES: 0 <= p < 1
Value dropout(Graph& graph, Value x, float p, std::uint64_t seed, Value sample_id, Value epoch);

}  // namespace models
