#pragma once

#include <string>

#include "models/graph/graph.h"

// What classifiers share: the fully connected layer, and where dropout takes its masks from. The
// networks themselves: models/mlp.h, models/cnn.h; ResNet and VGG are in classifier.cpp.
namespace models {

// Dropout of one graph; none in inference and with probability 0.
struct Masks {
  float probability = 0.0f;
  std::uint64_t seed = 1;
  Value sample_id, epoch;  // i64 (N), i32 (N)
};
// Dropout with the masks of the graph's present scope; x itself where there is none.
Value masked(Graph& graph, Value x, const Masks& masks);

// PyTorch's default for linear layers and convolutions: U(-b, b), b = 1 / sqrt(fan in), for weights
// and biases alike.
Initializer uniform_by_fan(std::int64_t fan_in);

struct LinearLayer {
  std::string name;  // parameters "<scope>.<name>.weight" and ".bias"
  std::int64_t outputs;
  Initializer weight_init = {}, bias_init = {};
};
Value linear_layer(Graph& graph, Value x, const LinearLayer& layer);
// Initialised as PyTorch does.
Value linear_layer(Graph& graph, Value x, const std::string& name, std::int64_t outputs);

}  // namespace models
