#include "trainer/eval/coco_eval.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "trainer/eval/coco_match.h"
#include "trainer/eval/parallel.h"

namespace trainer {
namespace {

constexpr std::size_t kMaxDetectionCounts[] = {1, 10, 100};

// One detection of a class, from any image.
struct Ranked {
  double score;
  std::size_t rank;  // within its image and class
  std::array<Outcome, kNumAreas> outcomes;
};

// All images of one class lined up by score.
struct ClassMatches {
  std::vector<Ranked> detections;
  std::array<std::int64_t, kNumAreas> num_objects{};
};

ClassMatches line_up(std::span<const GroupMatches> groups) {
  ClassMatches all;
  for (const GroupMatches& group : groups) {
    for (std::size_t d = 0; d < group.scores.size(); ++d) {
      Ranked ranked{group.scores[d], d, {}};
      for (int a = 0; a < kNumAreas; ++a) ranked.outcomes[a] = group.outcomes[a][d];
      all.detections.push_back(ranked);
    }
    for (int a = 0; a < kNumAreas; ++a) all.num_objects[a] += group.num_objects[a];
  }
  std::stable_sort(all.detections.begin(), all.detections.end(),
                   [](const Ranked& a, const Ranked& b) { return a.score > b.score; });
  return all;
}

struct Curve {
  PrecisionCurve precision{};
  double recall = 0;  // of all detections
};

// What COCOeval.accumulate makes of one class, area range, IoU threshold and detection limit:
// q(r) = max over recall >= r of tp / (tp + fp), at 101 recalls; 0 where recall isn't reached.
Curve precision_curve(const ClassMatches& matches, int area, int threshold, std::size_t limit) {
  const auto num_objects = static_cast<double>(matches.num_objects[area]);
  std::vector<double> recalls, precisions;
  double tp = 0, fp = 0;
  for (const Ranked& detection : matches.detections) {
    if (detection.rank >= limit) continue;
    const Outcome outcome = detection.outcomes[area];
    if ((outcome.ignored >> threshold & 1) == 0) {
      ((outcome.matched >> threshold & 1) != 0 ? tp : fp) += 1;
    }
    recalls.push_back(tp / num_objects);
    precisions.push_back(tp / (tp + fp + std::numeric_limits<double>::epsilon()));
  }
  for (std::size_t i = precisions.size(); i-- > 1;) {
    precisions[i - 1] = std::max(precisions[i - 1], precisions[i]);
  }
  Curve curve;
  curve.recall = recalls.empty() ? 0 : recalls.back();
  for (int r = 0; r < kNumRecalls; ++r) {
    const double recall = r == kNumRecalls - 1 ? 1.0 : r * 0.01;
    const auto at = std::lower_bound(recalls.begin(), recalls.end(), recall);
    curve.precision[r] = at == recalls.end() ? 0 : precisions[at - recalls.begin()];
  }
  return curve;
}

double mean(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? kUndefined : sum / static_cast<double>(values.size());
}

CocoClassResult evaluate_class(const ClassMatches& matches) {
  CocoClassResult result;
  result.stats.fill(kUndefined);
  result.precision50.fill(kUndefined);
  for (int area = 0; area < kNumAreas; ++area) {
    if (matches.num_objects[area] == 0) continue;
    std::array<double, kNumThresholds> ap, recall;
    for (int t = 0; t < kNumThresholds; ++t) {
      const Curve curve = precision_curve(matches, area, t, kMaxDetections);
      ap[t] = mean(curve.precision);
      recall[t] = curve.recall;
      if (area == 0 && t == 0) result.precision50 = curve.precision;
    }
    result.stats[area == 0 ? kAp : kApS + area - 1] = mean(ap);
    result.stats[area == 0 ? kAr100 : kArS + area - 1] = mean(recall);
    if (area != 0) continue;
    result.stats[kAp50] = ap[0];
    result.stats[kAp75] = ap[5];
    for (const int limit : {0, 1}) {
      for (int t = 0; t < kNumThresholds; ++t) {
        recall[t] = precision_curve(matches, area, t, kMaxDetectionCounts[limit]).recall;
      }
      result.stats[kAr1 + limit] = mean(recall);
    }
  }
  return result;
}

// Mean over the classes where `value` is defined.
template <typename Value>
double mean_over_classes(const std::vector<CocoClassResult>& classes, Value value) {
  std::vector<double> defined;
  for (const CocoClassResult& result : classes) {
    if (!std::isnan(value(result))) defined.push_back(value(result));
  }
  return mean(defined);
}

}  // namespace

CocoResult evaluate_coco(const CocoEvalInput& input, IouType type, int num_threads) {
  const std::vector<EvalGroup> groups = group_input(input);
  std::vector<GroupMatches> matches(groups.size());
  run_jobs(groups.size(), num_threads,
           [&](std::size_t i) { matches[i] = match_group(input, groups[i], type); });

  CocoResult result;
  result.per_class.resize(input.category_ids.size());
  run_jobs(result.per_class.size(), num_threads, [&](std::size_t category) {
    const auto [first, last] = std::equal_range(
        groups.begin(), groups.end(), EvalGroup{category, {}, {}},
        [](const EvalGroup& a, const EvalGroup& b) { return a.category < b.category; });
    const auto of_class = std::span(matches).subspan(first - groups.begin(), last - first);
    result.per_class[category] = evaluate_class(line_up(of_class));
    result.per_class[category].category_id = input.category_ids[category];
  });
  for (std::size_t s = 0; s < result.stats.size(); ++s) {
    result.stats[s] =
        mean_over_classes(result.per_class, [&](const CocoClassResult& c) { return c.stats[s]; });
  }
  for (std::size_t r = 0; r < kNumRecalls; ++r) {
    result.precision50[r] = mean_over_classes(
        result.per_class, [&](const CocoClassResult& c) { return c.precision50[r]; });
  }
  return result;
}

MetricGroup coco_metrics(const CocoResult& result, const std::string& group,
                         std::span<const std::string> names) {
  if (names.size() != result.per_class.size()) {
    throw std::invalid_argument(std::to_string(names.size()) + " names for " +
                                std::to_string(result.per_class.size()) + " classes");
  }
  MetricGroup metrics{group, {}, {}};
  for (std::size_t s = 0; s < result.stats.size(); ++s) {
    metrics.values.emplace_back(kCocoStatNames[s], result.stats[s]);
  }
  for (std::size_t c = 0; c < names.size(); ++c) {
    metrics.per_class.emplace_back(names[c], result.per_class[c].stats[kAp]);
  }
  return metrics;
}

}  // namespace trainer
