#pragma once

#include <cstdint>
#include <vector>

#include "trainer/eval/coco_eval.h"

namespace trainer {

// What detections took objects for. Row = true class, column = detected class, in the order of
// category_ids; the last row is "no object there", the last column "not found".
struct DetectionConfusion {
  std::int64_t num_classes = 0;      // categories
  std::vector<std::int64_t> counts;  // (num_classes + 1, num_classes + 1)

  std::int64_t at(std::int64_t truth, std::int64_t detected) const {
    return counts[static_cast<std::size_t>(truth * (num_classes + 1) + detected)];
  }
};

// In each image, detections scoring at least `score_threshold`, best first (equal scores in input
// order), take the free object of highest box IoU, if that is >= `iou_threshold`, whatever its
// class. A detection without one is left out where it lies on a crowd region of any class.
DetectionConfusion detection_confusion(const CocoEvalInput& input, double score_threshold,
                                       double iou_threshold = 0.5);

}  // namespace trainer
