#pragma once

#include "models/graph/graph.h"

namespace models {

// y = factor x, a constant factor. x, y: any shape
Value scale(Graph& graph, Value x, float factor);

}  // namespace models
