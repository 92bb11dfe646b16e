#pragma once

#include <string>
#include <vector>

#include "models/layers.h"

namespace models {

// ResNet (He et al. 2015; stride in the 3x3 convolution, as torchvision). Names below the graph's
// scope: conv1, bn1, layer1..4. `trainable_stages` counts from the output: 0 none, 5 all.
struct ResNetOptions {
  int depth = 50;  // 18, 34, 50, 101
  int trainable_stages = 5;
  std::vector<bool> dilate = {false, false, false};  // layer2..4: dilation instead of stride
};

// Outputs of layer1..layer4, strides 4, 8, 16, 32 (less where dilated).
std::vector<Value> resnet(Graph& graph, Value image, const ResNetOptions& resnet,
                          LayerOptions options);

}  // namespace models
