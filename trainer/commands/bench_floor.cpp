#include "trainer/commands/bench_floor.h"

#include <map>

#include "models/ops/conv2d_times.h"

namespace trainer {
namespace {

constexpr int kRuns = 12;

// How often each distinct convolution occurs.
std::map<models::ConvProblem, int> convolutions_of(const models::Plan& plan) {
  const models::Graph& graph = *plan.graph;
  std::vector<models::ConvProblem> of_node(graph.nodes().size());
  std::map<models::ConvProblem, int> counts;
  std::vector<bool> seen(graph.nodes().size(), false);
  for (const models::PlanStep& step : plan.steps) {
    if (step.node < 0) continue;
    const models::Node& node = graph.nodes()[step.node];
    const auto* conv = dynamic_cast<const models::Conv2dOp*>(node.op.get());
    if (!conv) continue;
    seen[step.node] = true;
    models::ConvProblem& problem = of_node[step.node];
    if (step.kind == models::StepKind::kForward) {
      problem.x = graph.shape(node.inputs[0]);
      problem.weight = graph.shape(node.inputs[1]);
      problem.y = graph.shape(node.outputs[0]);
      problem.attributes = conv->conv();
    } else {
      problem.data_gradient = step.modes[0] != models::GradientMode::kNone;
      problem.weight_gradient = step.modes[1] != models::GradientMode::kNone;
    }
  }
  for (std::size_t n = 0; n < of_node.size(); ++n) {
    if (seen[n]) ++counts[of_node[n]];
  }
  return counts;
}

}  // namespace

FloorTimes floor_of(const models::Plan& plan, const std::function<void()>& alive) {
  FloorTimes floor;
  for (const auto& [problem, count] : convolutions_of(plan)) {
    alive();
    const models::ConvTimes times = models::time_conv2d(problem, kRuns);
    floor.seconds += count * times.best;
    floor.direct_seconds += count * times.direct;
    floor.convolutions += count;
  }
  return floor;
}

}  // namespace trainer
