#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace trainer {

inline constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

// Names with values in the order they are shown; NaN is "undefined" (null in JSON).
using NamedValues = std::vector<std::pair<std::string, double>>;

// One block of metrics.json: "bbox", "segm", "voc", "semantic" or "classification".
struct MetricGroup {
  std::string name;
  NamedValues values;
  NamedValues per_class;
};

// Everything an evaluation says, in the order of metrics.json.
struct Metrics {
  std::vector<MetricGroup> groups;

  // "bbox/AP" or "bbox/per_class/cat". NaN when undefined; nullptr when there is no such metric.
  const double* find(std::string_view path) const;
  // All but per_class, named by path: a line of metrics.jsonl.
  NamedValues flat() const;
};

}  // namespace trainer
