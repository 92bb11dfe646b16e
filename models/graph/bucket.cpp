// Buckets: the flat parameter layout in gradient-ready order, and the markers that tell the
// trainer when a bucket's gradients are complete and when its parameters are read again.
#include <algorithm>
#include <map>
#include <set>

#include "models/graph/plan.h"
#include "models/graph/weight_tiles.h"

namespace models {
namespace {

constexpr std::int64_t kOneBucketElements = 256 * 1024;  // 1 MiB: splitting less only adds latency
constexpr int kMaxBuckets =
    4;  // 3 to 5 of 15-25 MB cost least for these models' 20-60 M parameters

std::int64_t blocks(std::int64_t elements) {
  return (elements + kBlockElements - 1) / kBlockElements * kBlockElements;
}

// Step after which parameter p's gradient is complete and nobody reads its value or its
// micro-batch statistics any more; -1: it has no gradient.
std::vector<int> ready_steps(const Plan& plan) {
  std::vector<int> ready(plan.graph->parameters().size(), -1);
  std::vector<bool> has_gradient(ready.size(), false);
  const auto touch = [&](int value, int step) {
    if (value < 0) return;
    const PlanValue& v = plan.values[value];
    if (v.storage != Storage::kGradient) return;
    has_gradient[v.parameter] = true;
    ready[v.parameter] = std::max(ready[v.parameter], step);
  };
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    const PlanStep& step = plan.steps[s];
    for (const auto* list : {&step.inputs, &step.outputs, &step.doutputs, &step.dinputs}) {
      for (int value : *list) touch(value, static_cast<int>(s));
    }
  }
  return ready;
}

// Names of the parameters that only ops read which can do it in tiles, and that consist of whole
// ones.
std::set<std::string> tiled_parameters(const Graph& graph, int tile) {
  std::map<std::string, bool> reads_tiles;
  for (const Node& node : graph.nodes()) {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const auto& value = graph.values()[node.inputs[i].id];
      if (value.role != Graph::Role::kParameter) continue;
      const Shape& shape = value.spec.shape;
      const bool can = fits_tiles(shape, tile) && node.op->reads_tiles(static_cast<int>(i));
      const auto [entry, first] =
          reads_tiles.try_emplace(graph.parameters()[value.parameter].name, can);
      if (!first) entry->second &= can;
    }
  }
  std::set<std::string> tiled;
  for (const auto& [name, can] : reads_tiles) {
    if (can) tiled.insert(name);
  }
  return tiled;
}

std::shared_ptr<const ParameterLayout> define_layout(const Plan& plan,
                                                     const std::vector<int>& ready, int tile) {
  std::vector<int> order;
  std::vector<Parameter> untrained;
  for (std::size_t p = 0; p < ready.size(); ++p) {
    if (ready[p] >= 0) {
      order.push_back(static_cast<int>(p));
    } else {
      untrained.push_back(plan.graph->parameters()[p]);
    }
  }
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return ready[a] < ready[b]; });
  std::vector<Parameter> trained;
  for (int p : order) trained.push_back(plan.graph->parameters()[p]);
  ParameterLayout layout = make_parameter_layout(trained, untrained, plan.ranks);
  if (tile > 1) {
    REQUIRE(plan.device == comm::DeviceKind::kCpu, "tiles are the CPU's");
    for (const std::string& name : tiled_parameters(*plan.graph, tile)) {
      layout.slots[static_cast<std::size_t>(layout.by_name.at(name))].tile = tile;
    }
  }
  return std::make_shared<const ParameterLayout>(std::move(layout));
}

}  // namespace

const ParameterSlot& ParameterLayout::slot(const std::string& name) const {
  const auto found = by_name.find(name);
  REQUIRE(found != by_name.end(), "no parameter {}", name);
  return slots[found->second];
}

ParameterLayout make_parameter_layout(const std::vector<Parameter>& ready_order,
                                      const std::vector<Parameter>& untrained, int ranks) {
  ParameterLayout layout;
  layout.ranks = ranks;
  std::int64_t total = 0;
  for (const Parameter& p : ready_order) total += blocks(p.shape.count());
  const std::int64_t target =
      total <= kOneBucketElements ? total : (total + kMaxBuckets - 1) / kMaxBuckets;
  std::int64_t index = 0;
  for (const Parameter& p : ready_order) {
    const std::int64_t size = blocks(p.shape.count());
    // A new bucket starts where the running total comes closest to a multiple of the target.
    const auto count = static_cast<std::int64_t>(layout.buckets.size());
    if (layout.buckets.empty() || (count < kMaxBuckets && index + size / 2 >= target * count)) {
      layout.buckets.push_back({index});
    }
    layout.slots.push_back(
        {p, static_cast<int>(layout.buckets.size()) - 1, index, p.shape.count()});
    index += size;
    layout.buckets.back().size = index - layout.buckets.back().begin;
  }
  for (Bucket& bucket : layout.buckets) {
    const std::int64_t num_blocks = bucket.size / kBlockElements;
    bucket.shard_elements = (num_blocks + ranks - 1) / ranks * kBlockElements;
    bucket.offset = layout.gradient_elements;
    layout.gradient_elements += bucket.shard_elements * ranks;
  }
  for (ParameterSlot& slot : layout.slots) {
    const Bucket& bucket = layout.buckets[slot.bucket];
    slot.offset = bucket.offset + slot.begin - bucket.begin;
  }
  layout.parameter_elements = layout.gradient_elements;
  for (const Parameter& p : untrained) {
    if (p.kind == ParameterKind::kCounter) continue;
    layout.slots.push_back({p, -1, index, p.shape.count(), layout.parameter_elements});
    index += blocks(p.shape.count());
    layout.parameter_elements += blocks(p.shape.count());
  }
  for (std::size_t i = 0; i < layout.slots.size(); ++i) {
    layout.by_name[layout.slots[i].parameter.name] = static_cast<int>(i);
  }
  return layout;
}

Plan assign_buckets(Plan plan, const PlanOptions& options) {
  const std::vector<int> ready = ready_steps(plan);
  plan.layout = options.layout ? options.layout : define_layout(plan, ready, options.tile);
  if (!plan.training) return plan;

  const auto& parameters = plan.graph->parameters();
  const std::size_t num_buckets = plan.layout->buckets.size();
  std::vector<int> ready_after(num_buckets, -1), needed_before(num_buckets, -1);
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    const int bucket = plan.layout->slot(parameters[p].name).bucket;
    if (bucket >= 0) ready_after[bucket] = std::max(ready_after[bucket], ready[p]);
  }
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    for (int input : plan.steps[s].inputs) {
      if (input < 0 || plan.values[input].storage != Storage::kParameter) continue;
      const int bucket = plan.layout->slot(parameters[plan.values[input].parameter].name).bucket;
      if (bucket >= 0 && needed_before[bucket] < 0) needed_before[bucket] = static_cast<int>(s);
    }
  }
  std::vector<PlanStep> steps;
  const auto mark = [&](StepKind kind, const std::vector<int>& at, int step) {
    for (std::size_t k = 0; k < num_buckets; ++k) {
      if (at[k] != step) continue;
      PlanStep marker{kind};
      marker.bucket = static_cast<int>(k);
      steps.push_back(std::move(marker));
    }
  };
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    mark(StepKind::kBucketNeeded, needed_before, static_cast<int>(s));
    steps.push_back(std::move(plan.steps[s]));
    mark(StepKind::kBucketReady, ready_after, static_cast<int>(s));
  }
  plan.steps = std::move(steps);
  return plan;
}

}  // namespace models
