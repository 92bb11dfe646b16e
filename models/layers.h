#pragma once

#include <string>

#include "models/graph/graph.h"
#include "models/ops/conv2d.h"

namespace models {

// What a normalisation layer is.
enum class NormKind {
  kFrozen,  // constants, folded into the convolution
  kBatch,   // statistics of the micro-batch
  kSync,    // statistics of the whole global batch
  kGroup,   // 32 groups of channels
};

// What all layers of one network share.
struct LayerOptions {
  NormKind norm = NormKind::kBatch;
  float norm_eps = 1e-5f;
  bool training = true;   // false: running statistics instead of the batch's
  bool trainable = true;  // of the stage under construction
};

// One convolution of a network. Parameters are named "<scope>.<name>.weight" and ".bias".
struct ConvLayer {
  std::string name;
  std::int64_t channels;  // outputs
  int kernel = 3;
  ConvAttributes conv = {};
  bool bias = true;
  Initializer weight_init = {};
  Initializer bias_init = {};
  bool normalised = false;  // feeds a normalisation with statistics of its own input
};

// He et al. 2015 with fan out, as torchvision's backbones.
Initializer kaiming_fan_out(std::int64_t channels, int kernel);
// U(-b, b), b = sqrt(3 / fan in): torchvision's FPN.
Initializer uniform_fan_in(std::int64_t inputs, int kernel);

Value conv_layer(Graph& graph, Value x, const ConvLayer& layer, const LayerOptions& options);
// Normalisation named "<scope>.<name>.{weight, bias, running_mean, running_var}".
Value norm_layer(Graph& graph, Value x, const std::string& name, const LayerOptions& options);

}  // namespace models
