#pragma once

#include <optional>

#include "models/classifier.h"
#include "models/layers.h"
#include "models/resnet.h"

namespace models {

struct DilatedFcnOptions {
  ResNetKind backbone;  // of depth 50 or more
  std::int64_t num_classes = 0;
  int trainable_stages = 5;
  bool aux = false;
};

// torchvision's FCN: ResNet whose layer3 and layer4 dilate instead of striding, a head of 3x3
// convolution, normalisation, ReLU, dropout and 1x1 convolution on layer4 and, as auxiliary, on
// layer3; logits bilinearly up-sampled to the size of the image. State: backbone.*,
// classifier.{0,1,4}, aux_classifier.{0,1,4}.
struct FcnLogits {
  Value out;                 // (N, K, H, W)
  std::optional<Value> aux;  // likewise; none in inference, where only its parameters are declared
};
FcnLogits dilated_fcn(Graph& graph, Value image, const DilatedFcnOptions& fcn, const Masks& masks,
                      const LayerOptions& layers);

}  // namespace models
