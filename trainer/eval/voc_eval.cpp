#include "trainer/eval/voc_eval.h"

#include <algorithm>
#include <map>
#include <stdexcept>

namespace trainer {
namespace {

using Corners = std::array<double, 4>;

double side(double low, double high) { return high - low + 1; }

double iou(const Corners& a, const Corners& b) {
  const double width = side(std::max(a[0], b[0]), std::min(a[2], b[2]));
  const double height = side(std::max(a[1], b[1]), std::min(a[3], b[3]));
  if (width <= 0 || height <= 0) return 0;
  const double both = width * height;
  return both / (side(a[0], a[2]) * side(a[1], a[3]) + side(b[0], b[2]) * side(b[1], b[3]) - both);
}

struct Candidate {
  const VocObject* object;
  bool taken = false;
};

struct ClassItems {
  std::map<std::int64_t, std::vector<Candidate>> objects;  // by image
  std::vector<const VocDetection*> detections;
  std::int64_t num_objects = 0;  // not difficult
};

template <typename Item>
ClassItems& class_of(std::vector<ClassItems>& classes, const Item& item) {
  if (item.category < 0 || item.category >= static_cast<std::int64_t>(classes.size())) {
    throw std::invalid_argument("category " + std::to_string(item.category) + " of " +
                                std::to_string(classes.size()));
  }
  return classes[static_cast<std::size_t>(item.category)];
}

struct PrCurve {
  std::vector<double> recall, precision;  // precision: the envelope, which never rises
};

PrCurve precision_recall(ClassItems& items, double iou_threshold) {
  std::stable_sort(
      items.detections.begin(), items.detections.end(),
      [](const VocDetection* a, const VocDetection* b) { return a->score > b->score; });
  PrCurve curve;
  double tp = 0, fp = 0;
  for (const VocDetection* detection : items.detections) {
    Candidate* best = nullptr;
    double best_iou = 0;
    for (Candidate& candidate : items.objects[detection->image]) {
      const double value = iou(detection->corners, candidate.object->corners);
      if (value <= best_iou) continue;
      best_iou = value;
      best = &candidate;
    }
    if (best != nullptr && best_iou >= iou_threshold) {
      if (best->object->difficult) continue;
      (best->taken ? fp : tp) += 1;
      best->taken = true;
    } else {
      fp += 1;
    }
    curve.recall.push_back(tp / static_cast<double>(items.num_objects));
    curve.precision.push_back(tp / (tp + fp));
  }
  for (std::size_t i = curve.precision.size(); i-- > 1;) {
    curve.precision[i - 1] = std::max(curve.precision[i - 1], curve.precision[i]);
  }
  return curve;
}

double all_point_ap(const PrCurve& curve) {
  double area = 0, before = 0;
  for (std::size_t i = 0; i < curve.recall.size(); ++i) {
    area += (curve.recall[i] - before) * curve.precision[i];
    before = curve.recall[i];
  }
  return area;
}

double eleven_point_ap(const PrCurve& curve) {
  double sum = 0;
  for (int i = 0; i <= 10; ++i) {
    // i * .1 as published tools step, a rounding above i / 10. for 3, 6 and 7: it decides ties.
    const auto at = std::lower_bound(curve.recall.begin(), curve.recall.end(), i * 0.1);
    if (at != curve.recall.end()) sum += curve.precision[at - curve.recall.begin()];
  }
  return sum / 11;
}

}  // namespace

VocResult evaluate_voc(std::span<const VocObject> objects, std::span<const VocDetection> detections,
                       const VocOptions& options) {
  std::vector<ClassItems> classes(static_cast<std::size_t>(options.num_classes));
  for (const VocObject& object : objects) {
    ClassItems& items = class_of(classes, object);
    items.objects[object.image].push_back({&object});
    items.num_objects += object.difficult ? 0 : 1;
  }
  for (const VocDetection& detection : detections) {
    class_of(classes, detection).detections.push_back(&detection);
  }
  VocResult result;
  double sum = 0;
  std::int64_t num_defined = 0;
  for (ClassItems& items : classes) {
    result.ap.push_back(kUndefined);
    if (items.num_objects == 0) continue;
    const PrCurve curve = precision_recall(items, options.iou_threshold);
    result.ap.back() =
        options.ap == VocAp::kAllPoints ? all_point_ap(curve) : eleven_point_ap(curve);
    sum += result.ap.back();
    ++num_defined;
  }
  if (num_defined > 0) result.mean_ap = sum / static_cast<double>(num_defined);
  return result;
}

MetricGroup voc_metrics(const VocResult& result, std::span<const std::string> names) {
  if (names.size() != result.ap.size()) {
    throw std::invalid_argument(std::to_string(names.size()) + " names for " +
                                std::to_string(result.ap.size()) + " classes");
  }
  MetricGroup metrics{"voc", {{"mAP50", result.mean_ap}}, {}};
  for (std::size_t c = 0; c < names.size(); ++c) {
    metrics.per_class.emplace_back(names[c], result.ap[c]);
  }
  return metrics;
}

}  // namespace trainer
