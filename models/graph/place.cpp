// Placement: one arena for all activations and their gradients, by lifetime.
#include <algorithm>
#include <numeric>

#include "models/graph/plan.h"

namespace models {
namespace {

constexpr std::int64_t kAlignment = 64;

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

std::int64_t place_intervals(std::span<Interval> intervals) {
  std::vector<int> order(intervals.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return intervals[a].bytes > intervals[b].bytes; });
  std::vector<int> placed;  // by offset
  std::int64_t size = 0;
  for (int i : order) {
    Interval& interval = intervals[i];
    const std::int64_t bytes = aligned(interval.bytes);
    std::int64_t offset = 0;
    for (int other : placed) {
      const Interval& o = intervals[other];
      if (o.last < interval.first || interval.last < o.first) continue;
      if (offset + bytes <= o.offset) break;
      offset = std::max(offset, o.offset + aligned(o.bytes));
    }
    interval.offset = offset;
    size = std::max(size, offset + bytes);
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), i,
                         [&](int a, int b) { return intervals[a].offset < intervals[b].offset; }),
        i);
  }
  return size;
}

Plan place(Plan plan) {
  const auto use = [&](int value, int step) {
    if (value < 0) return;
    PlanValue& v = plan.values[value];
    if (v.first < 0) v.first = step;
    v.last = std::max(v.last, step);
  };
  const int num_steps = static_cast<int>(plan.steps.size());
  for (int s = 0; s < num_steps; ++s) {
    const PlanStep& step = plan.steps[s];
    for (const auto* list : {&step.inputs, &step.outputs, &step.doutputs, &step.dinputs}) {
      for (int value : *list) use(value, s);
    }
  }
  for (const auto* list : {&plan.graph->outputs(), &plan.graph->losses()}) {
    for (const auto& named : *list) use(named.value.id, num_steps);  // read after the run
  }
  std::vector<Interval> intervals;
  std::vector<int> owners;
  for (std::size_t v = 0; v < plan.values.size(); ++v) {
    const PlanValue& value = plan.values[v];
    if (value.storage != Storage::kArena || value.first < 0) continue;
    intervals.push_back(
        {value.spec.shape.count() * type_bytes(value.spec.type), value.first, value.last});
    owners.push_back(static_cast<int>(v));
  }
  plan.arena_bytes = place_intervals(intervals);
  for (std::size_t i = 0; i < owners.size(); ++i) {
    plan.values[owners[i]].offset = intervals[i].offset;
  }
  return plan;
}

}  // namespace models
