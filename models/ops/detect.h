#pragma once

#include <memory>
#include <vector>

#include "models/graph/graph.h"
#include "models/ops/anchors.h"

namespace models {

struct DetectOptions {
  int num_classes = 0;
  float score_threshold = 0.05f;  // scores must be greater
  int per_level = 1000;           // candidates a level keeps
  float nms_iou = 0.5f;  // a box is dropped when it overlaps a better one of its class more
  int capacity = 300;    // detections of an image
};

struct Detections {
  Value boxes;   // f32 (N, capacity, 4), x1 y1 x2 y2 clipped to the network image
  Value scores;  // f32 (N, capacity), descending
  Value labels;  // i32 (N, capacity)
  Value count;   // i32 (N)
};

// RetinaNet's inference as torchvision's: per level the best candidates above the threshold,
// decoded, then non-maximum suppression within each class, then the best of all levels. Equal
// scores keep the order (level, anchor, class). A NaN shows: one among an image's logits makes all
// of its scores NaN, one in the offset of a detection its box.
//   logits, deltas: one a level, as in detection_loss.h; the image is height x width pixels
Detections detect(Graph& graph, std::shared_ptr<const AnchorGrid> anchors,
                  const std::vector<Value>& logits, const std::vector<Value>& deltas,
                  std::int64_t height, std::int64_t width, const DetectOptions& options);

// Greedy suppression over boxes in descending score order, within equal labels; indices that stay.
std::vector<int> nms(std::span<const Box> boxes, std::span<const std::int32_t> labels, float iou);

}  // namespace models
