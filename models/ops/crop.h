#pragma once

#include "models/graph/graph.h"

namespace models {

// A rectangle in cells of x. It may reach beyond x, where x counts as zero.
struct CropWindow {
  std::int64_t top = 0, left = 0;
  std::int64_t height = 0, width = 0;
};

// y(n, c, h, w) = x(n, c, top + h, left + w), zero outside x: crops, pads with zeros, or both.
//   x: (N, C, h_x, w_x); y: (N, C, height, width)
Value crop(Graph& graph, Value x, const CropWindow& window);

}  // namespace models
