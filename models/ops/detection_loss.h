#pragma once

#include <memory>
#include <vector>

#include "models/ops/match_anchors.h"

namespace models {

// Focal loss (Lin et al. 2017) over every anchor and class, alpha 0.25, gamma 2, summed per image,
// divided by its positives, averaged over images. No one-hot targets, no copy of the logits.
//   logits: one (N, A K, H, W) a level, channel a K + k; result: scalar
Value focal_loss(Graph& graph, std::shared_ptr<const AnchorGrid> anchors,
                 const std::vector<Value>& logits, const Matches& matches, int num_classes);

// L1 distance of the predicted and the encoded box over positive anchors, normalised alike.
//   deltas: one (N, 4 A, H, W) a level, channel 4 a + j; boxes: f32 (N, M, 4); result: scalar
Value box_loss(Graph& graph, std::shared_ptr<const AnchorGrid> anchors,
               const std::vector<Value>& deltas, Value boxes, const Matches& matches);

}  // namespace models
