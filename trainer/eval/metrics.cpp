#include "trainer/eval/metrics.h"

namespace trainer {
namespace {

const double* find_named(const NamedValues& values, std::string_view name) {
  for (const auto& [key, value] : values) {
    if (key == name) return &value;
  }
  return nullptr;
}

}  // namespace

const double* Metrics::find(std::string_view path) const {
  constexpr std::string_view kPerClass = "per_class/";
  const std::size_t slash = path.find('/');
  if (slash == std::string_view::npos) return nullptr;
  const std::string_view rest = path.substr(slash + 1);
  for (const MetricGroup& group : groups) {
    if (group.name != path.substr(0, slash)) continue;
    if (rest.starts_with(kPerClass)) {
      return find_named(group.per_class, rest.substr(kPerClass.size()));
    }
    return find_named(group.values, rest);
  }
  return nullptr;
}

NamedValues Metrics::flat() const {
  NamedValues all;
  for (const MetricGroup& group : groups) {
    for (const auto& [name, value] : group.values) all.emplace_back(group.name + "/" + name, value);
  }
  return all;
}

}  // namespace trainer
