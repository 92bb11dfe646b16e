#include "trainer/commands/plan_overlap.h"

#include <fmt/format.h>

#include "models/ops/conv2d.h"
#include "models/ops/linear.h"
#include "trainer/report/step_meter.h"

namespace trainer {
namespace {

// FLOPs of one step of the list; 0 for everything but convolutions and matrix products.
double flops_of(const models::Plan& plan, const models::PlanStep& step) {
  if (step.node < 0) return 0;
  const models::Node& node = plan.graph->nodes()[static_cast<std::size_t>(step.node)];
  const models::Op* const op = node.op.get();
  if (!dynamic_cast<const models::Conv2dOp*>(op) && !dynamic_cast<const models::LinearOp*>(op))
    return 0;
  const models::Shape& weight = plan.graph->shape(node.inputs[1]);
  const double pass = 2.0 * static_cast<double>(plan.graph->shape(node.outputs[0]).count()) *
                      static_cast<double>(weight.count() / weight[0]);
  if (step.kind == models::StepKind::kForward) return pass;
  double passes = 0;
  for (int input : {0, 1}) passes += step.modes[input] == models::GradientMode::kNone ? 0 : pass;
  return passes;
}

struct Passes {
  double forward = 0, backward = 0;
};
Passes total_of(const models::Plan& plan) {
  Passes total;
  for (const models::PlanStep& step : plan.steps) {
    (step.kind == models::StepKind::kForward ? total.forward : total.backward) +=
        flops_of(plan, step);
  }
  return total;
}

}  // namespace

std::vector<BucketOverlap> overlaps_of(const models::Plan& plan) {
  const Passes total = total_of(plan);
  Passes done;
  std::vector<BucketOverlap> overlaps(plan.layout->buckets.size());
  for (const models::PlanStep& step : plan.steps) {
    if (step.kind == models::StepKind::kBucketNeeded) {
      overlaps[step.bucket].forward_done = done.forward / total.forward;
    } else if (step.kind == models::StepKind::kBucketReady) {
      overlaps[step.bucket].backward_left = 1 - done.backward / total.backward;
    } else {
      (step.kind == models::StepKind::kForward ? done.forward : done.backward) +=
          flops_of(plan, step);
    }
  }
  return overlaps;
}

std::string overlap_text(const models::Plan& plan, std::int64_t sums_sent) {
  const Passes total = total_of(plan);
  std::string text = fmt::format(
      "overlap: convolutions and products of a micro-batch, forward {:.4g} GFLOP, backward {:.4g} "
      "GFLOP\n",
      1e-9 * total.forward, 1e-9 * total.backward);
  const std::vector<BucketOverlap> overlaps = overlaps_of(plan);
  for (std::size_t k = 0; k < overlaps.size(); ++k) {
    const std::int64_t bytes = plan.layout->buckets[k].size * 4 / plan.ranks * (plan.ranks - 1);
    text += fmt::format(
        "bucket {}: a rank sends {} of gradients behind the last {:.1f} % of the backward pass and "
        "{} "
        "of parameters behind the first {:.1f} % of the next forward pass\n",
        k, format_bytes(sums_sent * bytes), 100 * overlaps[k].backward_left, format_bytes(bytes),
        100 * overlaps[k].forward_done);
  }
  return text;
}

}  // namespace trainer
