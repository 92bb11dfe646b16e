#pragma once

#include <vector>

#include "models/layers.h"

namespace models {

struct VggOptions {
  int trainable_stages = 5;   // counted from the output: 0 none, 5 all
  bool ceil_pooling = false;  // a last window that sticks out counts, as Caffe's
};

// Convolution part of VGG-16 (Simonyan and Zisserman 2015) with torchvision's names below the
// graph's scope: features.0.weight ... features.28.bias. No normalisation.
// Outputs of pool1..pool5, strides 2, 4, 8, 16, 32.
std::vector<Value> vgg16(Graph& graph, Value image, const VggOptions& vgg,
                         const LayerOptions& options);

}  // namespace models
