#pragma once

#include "models/graph/graph.h"

namespace models {

// Bilinear interpolation up or down as PyTorch's with align_corners = false and no antialiasing:
// the source of output index i is max(0, (i + 1/2) h_x / H - 1/2), weights linear between its two
// neighbours, the last row and column repeated. The gradient gathers, so its order is fixed.
//   x: (N, C, h_x, w_x); y: (N, C, height, width)
Value resize_bilinear(Graph& graph, Value x, std::int64_t height, std::int64_t width);

}  // namespace models
