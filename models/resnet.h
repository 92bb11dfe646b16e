#pragma once

#include <string>
#include <vector>

#include "models/layers.h"

namespace models {

// Which network: ResNet (He et al. 2015) or ResNeXt (Xie et al. 2017), whose 3x3 convolutions are
// grouped and, in stage s (1..4), groups * width_per_group * 2^(s-1) channels wide.
struct ResNetKind {
  int depth = 50;            // 18, 34, 50, 101
  int groups = 1;            // other than 1 and 64 from depth 50 only
  int width_per_group = 64;  // at layer1
  bool operator==(const ResNetKind&) const = default;
};

// Of torchvision's names: "resnet50", "resnext50_32x4d". Errors: kConfig for any other.
ResNetKind resnet_kind(const std::string& backbone);

// Stride in the 3x3 convolution, as torchvision. Names below the graph's scope: conv1, bn1,
// layer1..4. `trainable_stages` counts from the output: 0 none, 5 all.
struct ResNetOptions {
  ResNetKind kind;
  int trainable_stages = 5;
  std::vector<bool> dilate = {false, false, false};  // layer2..4: dilation instead of stride
};

// Outputs of layer1..layer4, strides 4, 8, 16, 32 (less where dilated).
std::vector<Value> resnet(Graph& graph, Value image, const ResNetOptions& resnet,
                          LayerOptions options);

}  // namespace models
