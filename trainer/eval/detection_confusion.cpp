#include "trainer/eval/detection_confusion.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "trainer/eval/coco_match.h"

namespace trainer {
namespace {

struct ImageItems {
  std::vector<const EvalObject*> objects;  // crowds last
  std::vector<const EvalDetection*> detections;
};

std::map<std::int64_t, ImageItems> by_image(const CocoEvalInput& input, double score_threshold) {
  const std::set<std::int64_t> categories(input.category_ids.begin(), input.category_ids.end());
  std::map<std::int64_t, ImageItems> images;
  for (const std::int64_t id : input.image_ids) images[id];
  const auto image_of = [&](const auto& item) {
    const auto image = images.find(item.image_id);
    return categories.contains(item.category_id) && image != images.end() ? &image->second
                                                                          : nullptr;
  };
  for (const EvalObject& object : input.objects) {
    if (ImageItems* image = image_of(object)) image->objects.push_back(&object);
  }
  for (const EvalDetection& detection : input.detections) {
    if (detection.score < score_threshold) continue;
    if (ImageItems* image = image_of(detection)) image->detections.push_back(&detection);
  }
  for (auto& [id, image] : images) {
    std::stable_partition(image.objects.begin(), image.objects.end(),
                          [](const EvalObject* object) { return !object->is_crowd; });
    std::stable_sort(
        image.detections.begin(), image.detections.end(),
        [](const EvalDetection* a, const EvalDetection* b) { return a->score > b->score; });
  }
  return images;
}

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

// The best free object, or crowd where no object qualifies.
std::size_t best_match(const ImageItems& image, const std::vector<bool>& taken,
                       const EvalDetection& detection, double iou_threshold) {
  std::size_t best = kNone;
  double best_iou = 0;
  for (std::size_t g = 0; g < image.objects.size(); ++g) {
    const EvalObject& object = *image.objects[g];
    if (taken[g]) continue;
    if (object.is_crowd && best != kNone) break;
    const double iou = box_iou(detection.box, object.box, object.is_crowd);
    if (iou < iou_threshold || (best != kNone && iou <= best_iou)) continue;
    best_iou = iou;
    best = g;
  }
  return best;
}

}  // namespace

DetectionConfusion detection_confusion(const CocoEvalInput& input, double score_threshold,
                                       double iou_threshold) {
  DetectionConfusion confusion;
  confusion.num_classes = static_cast<std::int64_t>(input.category_ids.size());
  const std::int64_t none = confusion.num_classes, side = none + 1;
  confusion.counts.resize(static_cast<std::size_t>(side * side));
  std::unordered_map<std::int64_t, std::int64_t> index;
  for (const std::int64_t id : input.category_ids) {
    index.emplace(id, static_cast<std::int64_t>(index.size()));
  }
  for (const auto& [id, image] : by_image(input, score_threshold)) {
    std::vector<bool> taken(image.objects.size());
    for (const EvalDetection* detection : image.detections) {
      const std::size_t g = best_match(image, taken, *detection, iou_threshold);
      if (g != kNone && image.objects[g]->is_crowd) continue;
      const std::int64_t truth = g == kNone ? none : index.at(image.objects[g]->category_id);
      confusion.counts[truth * side + index.at(detection->category_id)] += 1;
      if (g != kNone) taken[g] = true;
    }
    for (std::size_t g = 0; g < image.objects.size(); ++g) {
      if (taken[g] || image.objects[g]->is_crowd) continue;
      confusion.counts[index.at(image.objects[g]->category_id) * side + none] += 1;
    }
  }
  return confusion;
}

}  // namespace trainer
