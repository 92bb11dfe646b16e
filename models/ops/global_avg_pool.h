#pragma once

#include "models/graph/graph.h"

namespace models {

// y(n, c) = mean over h, w of x(n, c, h, w): (N, C, H, W) to (N, C); summed in double.
Value global_avg_pool(Graph& graph, Value x);

}  // namespace models
