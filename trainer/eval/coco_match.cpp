#include "trainer/eval/coco_match.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <tuple>
#include <unordered_map>

namespace trainer {
namespace {

constexpr std::array<std::array<double, 2>, kNumAreas> kAreaRanges = {
    {{0, 1e10}, {0, 32 * 32}, {32 * 32, 96 * 96}, {96 * 96, 1e10}}};

bool outside(double area, int range) {
  return area < kAreaRanges[range][0] || area > kAreaRanges[range][1];
}

// numpy.linspace(.5, .95, 10), to the bit.
double iou_threshold(int t) {
  return t == kNumThresholds - 1 ? .95 : .5 + t * ((.95 - .5) / (kNumThresholds - 1));
}

std::unordered_map<std::int64_t, std::size_t> index_of(std::span<const std::int64_t> ids) {
  std::unordered_map<std::int64_t, std::size_t> index;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (!index.emplace(ids[i], i).second) {
      throw std::invalid_argument("id " + std::to_string(ids[i]) + " is listed twice");
    }
  }
  return index;
}

// IoU of the detections `ranked` with the objects of a group, (D, G) row-major.
class IouMatrix {
 public:
  IouMatrix(const CocoEvalInput& input, const EvalGroup& group,
            const std::vector<std::size_t>& ranked, IouType type)
      : num_objects_(group.objects.size()) {
    values_.reserve(ranked.size() * num_objects_);
    if (type == IouType::kBox) {
      for (const std::size_t d : ranked) {
        for (const std::size_t g : group.objects) {
          const EvalObject& object = input.objects[g];
          values_.push_back(box_iou(input.detections[d].box, object.box, object.is_crowd));
        }
      }
    } else {
      fill_mask_ious(input, group, ranked);
    }
  }

  double at(std::size_t d, std::size_t g) const { return values_[d * num_objects_ + g]; }

 private:
  struct MaskExtent {
    std::array<double, 4> box;
    std::int64_t area;
  };

  // Runs are walked only where the masks' boxes meet.
  void fill_mask_ious(const CocoEvalInput& input, const EvalGroup& group,
                      const std::vector<std::size_t>& ranked) {
    const auto extent = [](const Rle& m) { return MaskExtent{rle_box(m), rle_area(m)}; };
    std::vector<MaskExtent> objects;
    for (const std::size_t g : group.objects) objects.push_back(extent(input.objects[g].mask));
    for (const std::size_t d : ranked) {
      const Rle& mask = input.detections[d].mask;
      const MaskExtent detection = extent(mask);
      for (std::size_t g = 0; g < num_objects_; ++g) {
        const EvalObject& object = input.objects[group.objects[g]];
        std::int64_t both = 0;
        if (box_iou(detection.box, objects[g].box, false) > 0) {
          both = rle_intersection_area(mask, object.mask);
        }
        const std::int64_t any =
            object.is_crowd ? detection.area : detection.area + objects[g].area - both;
        values_.push_back(both == 0 ? 0 : static_cast<double>(both) / static_cast<double>(any));
      }
    }
  }

  std::size_t num_objects_;
  std::vector<double> values_;
};

// The objects of a group as one area range sees them: those that count come first.
struct RangedObjects {
  std::vector<std::size_t> order;  // indices into group.objects
  std::vector<bool> ignored;       // go with order
  std::vector<bool> crowd;
};

RangedObjects rank_objects(const CocoEvalInput& input, const EvalGroup& group, int range) {
  const auto is_ignored = [&](std::size_t g) {
    const EvalObject& object = input.objects[group.objects[g]];
    return object.is_crowd || outside(object.area, range);
  };
  RangedObjects ranged;
  ranged.order.resize(group.objects.size());
  std::iota(ranged.order.begin(), ranged.order.end(), 0);
  std::stable_partition(ranged.order.begin(), ranged.order.end(),
                        [&](std::size_t g) { return !is_ignored(g); });
  for (const std::size_t g : ranged.order) {
    ranged.ignored.push_back(is_ignored(g));
    ranged.crowd.push_back(input.objects[group.objects[g]].is_crowd);
  }
  return ranged;
}

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

// The free object of highest IoU >= threshold with detection d; an ignored one only if no other
// qualifies. Among equal IoUs the last wins, as in COCOeval.
std::size_t best_object(const IouMatrix& ious, const RangedObjects& objects,
                        const std::vector<bool>& taken, std::size_t d, double threshold) {
  double best_iou = std::min(threshold, 1 - 1e-10);
  std::size_t best = kNone;
  for (std::size_t g = 0; g < objects.order.size(); ++g) {
    if (taken[g] && !objects.crowd[g]) continue;
    if (best != kNone && !objects.ignored[best] && objects.ignored[g]) break;
    const double iou = ious.at(d, objects.order[g]);
    if (iou < best_iou) continue;
    best_iou = iou;
    best = g;
  }
  return best;
}

}  // namespace

double box_iou(const std::array<double, 4>& detection, const std::array<double, 4>& object,
               bool crowd) {
  const double width = std::min(detection[0] + detection[2], object[0] + object[2]) -
                       std::max(detection[0], object[0]);
  const double height = std::min(detection[1] + detection[3], object[1] + object[3]) -
                        std::max(detection[1], object[1]);
  if (width <= 0 || height <= 0) return 0;
  const double both = width * height;
  const double detection_area = detection[2] * detection[3];
  const double object_area = object[2] * object[3];
  return both / (crowd ? detection_area : detection_area + object_area - both);
}

std::vector<EvalGroup> group_input(const CocoEvalInput& input) {
  const auto categories = index_of(input.category_ids);
  const auto images = index_of(input.image_ids);
  using Key = std::tuple<std::size_t, std::int64_t, bool, std::size_t>;
  std::vector<Key> keys;
  const auto add = [&](const auto& item, bool is_detection, std::size_t i) {
    const auto category = categories.find(item.category_id);
    if (category == categories.end() || !images.contains(item.image_id)) return;
    keys.emplace_back(category->second, item.image_id, is_detection, i);
  };
  for (std::size_t i = 0; i < input.objects.size(); ++i) add(input.objects[i], false, i);
  for (std::size_t i = 0; i < input.detections.size(); ++i) {
    if (std::isnan(input.detections[i].score)) {
      throw std::invalid_argument("score of detection " + std::to_string(i) + " is NaN");
    }
    add(input.detections[i], true, i);
  }
  std::sort(keys.begin(), keys.end());
  std::vector<EvalGroup> groups;
  std::int64_t image = 0;
  for (const auto& [category, image_id, is_detection, i] : keys) {
    if (groups.empty() || groups.back().category != category || image != image_id) {
      groups.push_back({category, {}, {}});
      image = image_id;
    }
    (is_detection ? groups.back().detections : groups.back().objects).push_back(i);
  }
  return groups;
}

GroupMatches match_group(const CocoEvalInput& input, const EvalGroup& group, IouType type) {
  std::vector<std::size_t> ranked = group.detections;
  std::stable_sort(ranked.begin(), ranked.end(), [&](std::size_t a, std::size_t b) {
    return input.detections[a].score > input.detections[b].score;
  });
  ranked.resize(std::min<std::size_t>(ranked.size(), kMaxDetections));
  const IouMatrix ious(input, group, ranked, type);

  GroupMatches matches;
  for (const std::size_t d : ranked) matches.scores.push_back(input.detections[d].score);
  for (int range = 0; range < kNumAreas; ++range) {
    const RangedObjects objects = rank_objects(input, group, range);
    std::vector<Outcome>& outcomes = matches.outcomes[range];
    outcomes.resize(ranked.size());
    matches.num_objects[range] = std::count(objects.ignored.begin(), objects.ignored.end(), false);
    for (int t = 0; t < kNumThresholds; ++t) {
      const auto bit = static_cast<std::uint16_t>(1 << t);
      std::vector<bool> taken(objects.order.size());
      for (std::size_t d = 0; d < ranked.size(); ++d) {
        const std::size_t g = best_object(ious, objects, taken, d, iou_threshold(t));
        if (g != kNone) {
          taken[g] = true;
          outcomes[d].matched |= bit;
          if (objects.ignored[g]) outcomes[d].ignored |= bit;
        } else if (outside(input.detections[ranked[d]].area, range)) {
          outcomes[d].ignored |= bit;
        }
      }
    }
  }
  return matches;
}

}  // namespace trainer
