// The plan as people and golden tests read it: what is computed in which order, where it lies,
// what is communicated when.
#include <fmt/format.h>

#include "models/graph/plan.h"

namespace models {
namespace {

std::string mib(std::int64_t bytes) { return fmt::format("{:.2f} MiB", bytes / 1048576.0); }

std::string location(const Plan& plan, int id) {
  const PlanValue& v = plan.values[id];
  const std::string shape =
      to_string(v.spec.shape) + (v.spec.type == Type::kF32 ? "" : ":" + to_string(v.spec.type)) +
      (v.layout == Layout::kBlocked ? "b" : "");
  switch (v.storage) {
    case Storage::kInput: return fmt::format("{}[{}]", v.name, shape);
    case Storage::kParameter: return plan.graph->parameters()[v.parameter].name;
    case Storage::kGradient: return "d " + plan.graph->parameters()[v.parameter].name;
    case Storage::kSeed: return fmt::format("{:g}", v.seed);
    case Storage::kArena: return fmt::format("@{}[{}]", v.offset, shape);
  }
  return "?";
}

std::string list(const Plan& plan, const std::vector<int>& ids,
                 const std::vector<GradientMode>* modes = nullptr) {
  std::string text;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0) continue;
    const bool adds = modes && (*modes)[i] == GradientMode::kAccumulate;
    text += (text.empty() ? "" : ", ") + std::string(adds ? "+= " : "") + location(plan, ids[i]);
  }
  return text;
}

std::string step_text(const Plan& plan, const PlanStep& step) {
  if (step.kind == StepKind::kBucketReady || step.kind == StepKind::kBucketNeeded) {
    const Bucket& bucket = plan.layout->buckets[step.bucket];
    return fmt::format("comm     {} bucket {} ({})",
                       step.kind == StepKind::kBucketReady ? "ready " : "needed", step.bucket,
                       mib(bucket.size * 4));
  }
  const Node& node = plan.graph->nodes()[step.node];
  const std::string attributes = node.op->attributes();
  const std::string what = node.op->name() + (attributes.empty() ? "" : " {" + attributes + "}");
  const std::string scope = node.scope.empty() ? "" : node.scope + ": ";
  if (step.kind == StepKind::kForward) {
    return fmt::format("forward  {}{} ({}) -> {}", scope, what, list(plan, step.inputs),
                       list(plan, step.outputs));
  }
  std::string reads = list(plan, step.inputs);
  const std::string outputs = list(plan, step.outputs);
  if (!outputs.empty()) reads += (reads.empty() ? "" : ", ") + outputs;
  return fmt::format("backward {}{} ({}; {}) -> {}", scope, node.op->name(),
                     list(plan, step.doutputs), reads, list(plan, step.dinputs, &step.modes));
}

}  // namespace

std::string to_text(const Plan& plan) {
  const ParameterLayout& layout = *plan.layout;
  std::int64_t trained = 0;
  for (const Bucket& bucket : layout.buckets) trained += bucket.size;
  std::string text = fmt::format(
      "plan: {} on {}, {} rank{}\n", plan.training ? "training" : "inference",
      plan.device == comm::DeviceKind::kCuda ? "cuda" : "cpu", plan.ranks,
      plan.ranks == 1 ? "" : "s");
  text += fmt::format("memory: parameters {}, gradients {}, activations {} (logical)\n",
                      mib(layout.parameter_elements * 4), mib(layout.gradient_elements * 4),
                      mib(plan.arena_bytes));
  for (std::size_t k = 0; k < layout.buckets.size(); ++k) {
    const Bucket& bucket = layout.buckets[k];
    text += fmt::format("bucket {}: elements [{}, {}), {}; shard {} ({})\n", k, bucket.begin,
                        bucket.begin + bucket.size, mib(bucket.size * 4), bucket.shard_elements,
                        mib(bucket.shard_elements * 4));
  }
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    text += fmt::format("{:4d}  {}\n", s, step_text(plan, plan.steps[s]));
  }
  return text;
}

}  // namespace models
