#pragma once

#include "models/graph/graph.h"

namespace models {

struct CrossEntropyAttributes {
  int ignore = -1;               // label of a pixel without a class
  float label_smoothing = 0.0f;  // e
  bool sum = false;              // over the pixels of an image, else the mean of the valid ones
};

// Softmax cross entropy. A valid pixel with label t contributes, with p = softmax over classes,
//   (1 - e) (-log p_t) + e / K sum_k (-log p_k)
// and any other pixel nothing. Result: scalar; the mean over the micro-batch's valid pixels, 0 with
// zero gradients when there is none; with `sum` the sum over an image's pixels, averaged over the
// micro-batch's images. Accumulated in double, in an order that no thread count changes.
//   logits: f32 (N, K, H, W); labels: i32 (N, H, W) or, with H = W = 1, (N)
// REQUIRES: a label is in [0, K) or `ignore`; any other is treated as `ignore`.
Value cross_entropy(Graph& graph, Value logits, Value labels,
                    const CrossEntropyAttributes& attributes);

}  // namespace models
