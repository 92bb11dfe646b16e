#pragma once

#include "models/graph/graph.h"

namespace models {

// y(n, c, h, w) = x(n, c, floor(h h_x / H), floor(w w_x / W)), as PyTorch's nearest interpolation.
//   x: (N, C, h_x, w_x) with h_x <= H, w_x <= W; y: (N, C, H, W)
Value upsample_nearest(Graph& graph, Value x, std::int64_t height, std::int64_t width);

}  // namespace models
