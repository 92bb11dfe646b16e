#pragma once

#include <vector>

#include "models/classifier.h"

namespace models {

// Perceptron on the pixels in (C, H, W) order: Linear, ReLU, Linear, ReLU, ..., Linear.
//   image: (N, C, H, W); layers: units, C H W first, classes last; result: logits (N, K)
// Parameters are named as in nn.Sequential(Linear, ReLU, Linear, ...): 0.weight, 0.bias, 2.weight,
// ... A dropout behind each ReLU has no parameters and takes no index: weights of a network with
// dropout load into one without. Errors: kConfig where layers and image do not fit.
Value mlp(Graph& graph, Value image, const std::vector<int>& layers, const Masks& masks);

}  // namespace models
