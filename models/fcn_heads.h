#pragma once

#include <string>

#include "models/classifier.h"
#include "models/layers.h"

// The heads of Long, Shelhamer and Darrell 2015 (FCN-32s, 16s, 8s): class scores from the coarsest
// map, up-sampled by transposed convolutions and summed with scores of finer maps.
//
// Names, as in the Caffe and PyTorch ports:
//   vgg16: backbone.features.N.{weight,bias}, fc6, fc7, score_fr; ResNet: backbone.*, score_fr
//   16s, 8s: score_pool4 (vgg16: pool4; ResNet: layer3); 8s: score_pool3 (pool3; layer2)
//   learned deconvolutions (C, C, k, k): upscore (32s); upscore2, upscore16 (16s); upscore2,
//   upscore_pool4, upscore8 (8s). Fixed ones are no tensors.
namespace models {

struct FcnHeadOptions {
  std::string head;  // "32s", "16s", "8s"
  std::string backbone;
  std::int64_t num_classes = 0;
  int trainable_stages = 5;
  bool learned_deconvolution = false;  // all of them; initialised bilinear either way
};

// Logits at the size of the image: f32 (N, K, H, W).
//   vgg16: the image is padded by 100 pixels, windows of pooling that stick out count, and crops
//   are at the offsets of the released networks (19; 5, 27; 5, 9, 31), so any size works; pool4
//   and pool3 are scaled by 0.01 and 0.0001 as in the network trained at once; score layers start
//   at zero. fc6 and fc7 are followed by dropout.
//   ResNet: strides 8, 16 and 32 fit without padding, so maps are only cropped where the size is no
//   multiple of 32; score layers start small and random, since nothing is pretrained here.
// Errors: kConfig for a head or backbone that does not exist.
Value fcn_head(Graph& graph, Value image, const FcnHeadOptions& fcn, const Masks& masks,
               const LayerOptions& layers);

}  // namespace models
