#pragma once

#include "models/graph/graph.h"

namespace models {

// y(n, (c H + h) W + w) = x(n, c, h, w): (N, C, H, W) to (N, C H W), as torch.flatten(x, 1).
Value flatten(Graph& graph, Value x);
// The way back for vectors: (N, C) to (N, C, 1, 1), for ops on maps.
Value as_map(Graph& graph, Value x);

}  // namespace models
