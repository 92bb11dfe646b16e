#pragma once

#include <memory>

#include "models/graph/graph.h"
#include "models/ops/anchors.h"

namespace models {

inline constexpr std::int32_t kBackground = -1;  // IoU below the low threshold with every box
inline constexpr std::int32_t kIgnored = -2;     // between the thresholds: not trained

struct Matches {
  Value target;  // i32 (N, A): class of the anchor's box, kBackground or kIgnored
  Value box;     // i32 (N, A): its index among the image's boxes, or kBackground / kIgnored
  Value scale;   // f32 (N): 1 / (N max(1, positives of the image)), the loss normaliser
};

// Assigns boxes to anchors as torchvision's Matcher: an anchor takes its box of highest IoU if that
// is >= high, background if < low; and every box keeps the anchors that fit it best whatever their
// IoU (low-quality matches). Two passes, O(anchors + boxes) memory, no IoU matrix.
//   boxes: f32 (N, M, 4) x1 y1 x2 y2; labels: i32 (N, M); count: i32 (N), boxes that exist
Matches match_anchors(Graph& graph, std::shared_ptr<const AnchorGrid> anchors, Value boxes,
                      Value labels, Value count, float low, float high);

}  // namespace models
