#pragma once

#include "models/classifier.h"

namespace models {

// The small network for 32x32 images: convolution 3x3 to 64, ReLU, max pool 2, convolution 3x3 to
// 128, ReLU, max pool 2, linear to 1024, ReLU, linear to the classes. Convolutions are padded by 1.
//   image: (N, C, H, W), H and W at least 4; result: logits (N, K)
// Parameters are named as in nn.Sequential with a Flatten: 0 and 3 are the convolutions, 7 and 9
// the linear layers; 8,475,530 of them for 3x32x32 and ten classes. A dropout behind the last ReLU
// takes no index. Errors: kConfig for images that are too small.
Value cnn(Graph& graph, Value image, int num_classes, const Masks& masks);

}  // namespace models
