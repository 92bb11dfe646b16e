#pragma once

#include <vector>

#include "models/layers.h"

namespace models {

// Feature pyramid (Lin et al. 2017) over stages of falling resolution, with P6 and P7 from the
// last level (torchvision's LastLevelP6P7 when its input is P5). Every level has `channels`.
// Names below the scope: inner_blocks.i.0, layer_blocks.i.0, extra_blocks.p6, extra_blocks.p7.
std::vector<Value> feature_pyramid(Graph& graph, const std::vector<Value>& stages,
                                   std::int64_t channels, const LayerOptions& options);

}  // namespace models
