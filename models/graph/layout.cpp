// Layout: which rank-4 values live in the device's blocked order. Chains of convolutions stay
// blocked from end to end; a reorder is inserted only where an op needs the other order.
#include <map>

#include "models/graph/plan.h"
#include "models/graph/reorder.h"

namespace models {
namespace {

bool is_activation(const Graph& graph, Value value) {
  const auto& info = graph.values()[value.id];
  return info.role == Graph::Role::kActivation && info.spec.shape.rank == 4 &&
         info.spec.type == Type::kF32;
}

// An image fills a fifth of a block, and oneDNN has no fast convolution for it in that order.
constexpr std::int64_t kFewChannels = 4;

bool makes_blocked(LayoutRule rule) {
  return rule == LayoutRule::kBlocked || rule == LayoutRule::kImage;
}

// Rebuilds a graph node by node, because inserted reorders shift ids.
class Builder {
 public:
  explicit Builder(const Graph& source) : source_(source), mapped_(source.values().size()) {
    for (std::size_t v = 0; v < source.values().size(); ++v) {
      const auto& info = source.values()[v];
      if (info.role == Graph::Role::kInput) mapped_[v] = result_.graph.input(info.name, info.spec);
      if (info.role == Graph::Role::kParameter) {
        mapped_[v] = result_.graph.parameter(source.parameters()[info.parameter]);
      }
    }
    result_.layouts.resize(result_.graph.values().size(), Layout::kPlain);
  }

  LaidOutGraph build() {
    for (const Node& node : source_.nodes()) add(node);
    Graph& graph = result_.graph;
    for (const auto& named : source_.losses()) {
      graph.loss(named.name, mapped_[named.value.id], named.weight);
    }
    for (const auto& named : source_.outputs()) {
      graph.output(named.name, in_layout(mapped_[named.value.id], Layout::kPlain));
    }
    for (const auto& name : source_.counters()) graph.counter(name);
    return std::move(result_);
  }

 private:
  void add(const Node& node) {
    Graph& graph = result_.graph;
    const LayoutRule rule = node.op->layout();
    Graph::Scope scope(graph, node.scope);
    std::vector<Value> inputs;
    Layout follow = Layout::kPlain;
    for (Value input : node.inputs) {
      Value value = mapped_[input.id];
      if (is_activation(graph, value)) {
        if (rule == LayoutRule::kPlain) value = in_layout(value, Layout::kPlain);
        const bool image = rule == LayoutRule::kImage && inputs.empty() &&
                           graph.shape(value)[1] <= kFewChannels;
        if (makes_blocked(rule) && !image) value = in_layout(value, Layout::kBlocked);
        if (rule == LayoutRule::kFollow) {
          if (inputs.empty()) follow = result_.layouts[value.id];
          value = in_layout(value, follow);
        }
      }
      inputs.push_back(value);
    }
    const std::vector<Value> outputs = graph.add(node.op, inputs);
    const Layout produced = makes_blocked(rule)           ? Layout::kBlocked
                            : rule == LayoutRule::kFollow ? follow
                                                          : Layout::kPlain;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      result_.layouts.push_back(is_activation(graph, outputs[i]) ? produced : Layout::kPlain);
      mapped_[node.outputs[i].id] = outputs[i];
      const int statistic = source_.values()[node.outputs[i].id].statistic;
      if (statistic >= 0) {
        graph.statistic(graph.parameter(source_.parameters()[statistic]), outputs[i]);
      }
    }
  }

  Value in_layout(Value value, Layout layout) {
    if (!is_activation(result_.graph, value) || result_.layouts[value.id] == layout) return value;
    auto [entry, inserted] = reordered_.try_emplace(value.id);
    if (inserted) {
      entry->second = result_.graph.add(make_reorder(), {value})[0];
      result_.layouts.push_back(layout);
    }
    return entry->second;
  }

  const Graph& source_;
  LaidOutGraph result_;
  std::vector<Value> mapped_;        // source value -> value here
  std::map<int, Value> reordered_;  // value here -> the same in the other order
};

}  // namespace

LaidOutGraph choose_layouts(const Graph& graph) { return Builder(graph).build(); }

}  // namespace models
