// Differentiation: the forward list, then the backward list in reverse order. The first writer of
// a gradient overwrites, later ones accumulate; nothing is ever zeroed.
#include "models/graph/plan.h"

namespace models {
namespace {

class Differentiator {
 public:
  Differentiator(LaidOutGraph laid_out, const PlanOptions& options) {
    plan_.graph = std::make_shared<const Graph>(std::move(laid_out.graph));
    plan_.device = options.device;
    plan_.ranks = options.ranks;
    plan_.training = options.training;
    describe_values(laid_out.layouts, laid_out.types);
  }

  Plan run() {
    const Graph& graph = *plan_.graph;
    for (std::size_t n = 0; n < graph.nodes().size(); ++n) forward(static_cast<int>(n));
    if (!plan_.training) return std::move(plan_);
    mark_differentiable();
    for (const auto& loss : graph.losses()) seed(loss);
    for (int n = static_cast<int>(graph.nodes().size()) - 1; n >= 0; --n) backward(n);
    return std::move(plan_);
  }

 private:
  void describe_values(const std::vector<Layout>& layouts, const std::vector<Type>& types) {
    const Graph& graph = *plan_.graph;
    plan_.gradient_of.assign(graph.values().size(), -1);
    written_.assign(graph.values().size(), false);
    for (std::size_t v = 0; v < graph.values().size(); ++v) {
      const auto& info = graph.values()[v];
      PlanValue value{info.name, {types[v], info.spec.shape}, layouts[v]};
      if (info.role == Graph::Role::kInput) value.storage = Storage::kInput;
      if (info.role == Graph::Role::kParameter) {
        value.storage = Storage::kParameter;
        value.parameter = info.parameter;
      }
      if (info.statistic >= 0 && plan_.training) {
        value.storage = Storage::kGradient;  // averaged and applied like a gradient
        value.parameter = info.statistic;
      }
      if (info.producer >= 0) value.name = graph.nodes()[info.producer].scope;
      plan_.values.push_back(std::move(value));
    }
  }

  void mark_differentiable() {
    const Graph& graph = *plan_.graph;
    needs_.assign(graph.values().size(), false);
    for (std::size_t v = 0; v < graph.values().size(); ++v) {
      const int p = graph.values()[v].parameter;
      if (p < 0) continue;
      const Parameter& parameter = graph.parameters()[p];
      needs_[v] = parameter.trainable && parameter.kind != ParameterKind::kStatistic &&
                  parameter.kind != ParameterKind::kFixed;
    }
    for (const Node& node : graph.nodes()) {
      bool any = false;
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        any |= node.op->differentiable(static_cast<int>(i)) && needs_[node.inputs[i].id];
      }
      for (Value output : node.outputs) needs_[output.id] = any;
    }
  }

  void forward(int n) {
    const Node& node = plan_.graph->nodes()[n];
    PlanStep step{StepKind::kForward, n};
    for (Value input : node.inputs) step.inputs.push_back(input.id);
    for (Value output : node.outputs) step.outputs.push_back(output.id);
    plan_.steps.push_back(std::move(step));
  }

  void seed(const Graph::Named& loss) {
    PlanValue value{loss.name + ".seed", plan_.graph->spec(loss.value), Layout::kPlain,
                    Storage::kSeed};
    value.seed = loss.weight;
    plan_.gradient_of[loss.value.id] = static_cast<int>(plan_.values.size());
    plan_.values.push_back(std::move(value));
    written_[loss.value.id] = true;
  }

  // The plan value that holds the gradient of graph value v, made at its first writer.
  int gradient(int v) {
    if (plan_.gradient_of[v] < 0) {
      PlanValue value = plan_.values[v];
      value.name = "d " + value.name;
      value.storage =
          plan_.values[v].storage == Storage::kParameter ? Storage::kGradient : Storage::kArena;
      plan_.gradient_of[v] = static_cast<int>(plan_.values.size());
      plan_.values.push_back(std::move(value));
    }
    return plan_.gradient_of[v];
  }

  void backward(int n) {
    const Node& node = plan_.graph->nodes()[n];
    PlanStep step{StepKind::kBackward, n};
    step.inputs.assign(node.inputs.size(), -1);
    step.outputs.assign(node.outputs.size(), -1);
    bool reached = false;
    for (Value output : node.outputs) {
      const int dy = written_[output.id] ? plan_.gradient_of[output.id] : -1;
      step.doutputs.push_back(dy);
      reached |= dy >= 0;
    }
    bool any = false;
    for (std::size_t i = 0; i < node.inputs.size() && reached; ++i) {
      const int v = node.inputs[i].id;
      const bool wanted = needs_[v] && node.op->differentiable(static_cast<int>(i));
      step.dinputs.push_back(wanted ? gradient(v) : -1);
      step.modes.push_back(!wanted          ? GradientMode::kNone
                           : !written_[v]   ? GradientMode::kOverwrite
                                            : GradientMode::kAccumulate);
      if (wanted) written_[v] = true;
      any |= wanted;
    }
    if (!any) return;
    const Saved saved = node.op->saved();
    for (int i : saved.inputs) {
      if (i < static_cast<int>(node.inputs.size())) step.inputs[i] = node.inputs[i].id;
    }
    for (int i : saved.outputs) step.outputs[i] = node.outputs[i].id;
    plan_.steps.push_back(std::move(step));
  }

  Plan plan_;
  std::vector<bool> needs_;    // per graph value: a gradient is wanted
  std::vector<bool> written_;  // per graph value: its gradient has a writer already
};

}  // namespace

Plan differentiate(LaidOutGraph laid_out, const PlanOptions& options) {
  return Differentiator(std::move(laid_out), options).run();
}

}  // namespace models
