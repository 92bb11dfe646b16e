#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "trainer/eval/coco_eval.h"

namespace trainer {

inline constexpr int kNumThresholds = 10;   // IoU .5:.05:.95
inline constexpr int kNumAreas = 4;         // all, small, medium, large
inline constexpr int kMaxDetections = 100;  // the largest of 1, 10, 100

// Intersection over union of boxes (x, y, width, height); over the first's area if `crowd`.
double box_iou(const std::array<double, 4>& detection, const std::array<double, 4>& object,
               bool crowd);

// The objects and detections of one image and class: indices into the input, in its order.
struct EvalGroup {
  std::size_t category = 0;  // index into category_ids
  std::vector<std::size_t> objects;
  std::vector<std::size_t> detections;
};

// Groups that aren't empty, by category, then by image id; that is the order in which COCOeval
// lines up equal scores. Throws std::invalid_argument for an id listed twice or a NaN score.
std::vector<EvalGroup> group_input(const CocoEvalInput& input);

// What became of one detection, a bit per IoU threshold.
struct Outcome {
  std::uint16_t matched = 0;
  std::uint16_t ignored = 0;
};

struct GroupMatches {
  std::vector<double> scores;                            // best first, at most kMaxDetections
  std::array<std::vector<Outcome>, kNumAreas> outcomes;  // go with scores
  std::array<std::int64_t, kNumAreas> num_objects{};     // to be found
};

GroupMatches match_group(const CocoEvalInput& input, const EvalGroup& group, IouType type);

}  // namespace trainer
