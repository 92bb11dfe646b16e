// Layout: which rank-4 values live in the device's blocked order. Chains of convolutions stay
// blocked from end to end; a reorder is inserted only where an op needs the other order, or reads
// another type (precision.h), both in one sweep.
#include <map>
#include <tuple>

#include "models/graph/plan.h"
#include "models/graph/precision.h"
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
  Builder(const Graph& source, Precision precision)
      : source_(source), precision_(precision), mapped_(source.values().size()) {
    for (std::size_t v = 0; v < source.values().size(); ++v) {
      const auto& info = source.values()[v];
      if (info.role == Graph::Role::kInput) mapped_[v] = result_.graph.input(info.name, info.spec);
      if (info.role == Graph::Role::kParameter) {
        mapped_[v] = result_.graph.parameter(source.parameters()[info.parameter]);
      }
    }
    result_.layouts.resize(result_.graph.values().size(), Layout::kPlain);
    for (const auto& info : result_.graph.values()) result_.types.push_back(info.spec.type);
    if (precision == Precision::kBf16) store_images();
  }

  LaidOutGraph build() {
    for (const Node& node : source_.nodes()) add(node);
    Graph& graph = result_.graph;
    for (const auto& named : source_.losses()) {
      graph.loss(named.name, mapped_[named.value.id], named.weight);
    }
    for (const auto& named : source_.outputs()) {
      graph.output(named.name, stored_as(mapped_[named.value.id], Layout::kPlain, Type::kF32));
    }
    for (const auto& name : source_.counters()) graph.counter(name);
    return std::move(result_);
  }

 private:
  // An input that only convolutions read is written as they want it, so that whoever fills it
  // converts and reorders in the same sweep.
  void store_images() {
    std::vector<bool> read(source_.values().size()), otherwise(read.size());
    for (const Node& node : source_.nodes()) {
      const bool converts =
          node.op->layout() == LayoutRule::kImage && node.op->precision() == PrecisionRule::kBf16;
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        (converts && i == 0 ? read : otherwise)[node.inputs[i].id] = true;
      }
    }
    for (const auto& named : source_.outputs()) otherwise[named.value.id] = true;
    for (std::size_t v = 0; v < read.size(); ++v) {
      const auto& info = source_.values()[v];
      if (info.role != Graph::Role::kInput || info.spec.shape.rank != 4) continue;
      if (info.spec.type != Type::kF32 || !read[v] || otherwise[v]) continue;
      result_.layouts[mapped_[v].id] = Layout::kBlocked;
      result_.types[mapped_[v].id] = Type::kBF16;
    }
  }

  void add(const Node& node) {
    Graph& graph = result_.graph;
    Graph::Scope scope(graph, node.scope);
    const LayoutRule rule = node.op->layout();
    const TypeRule types(precision_, *node.op, stored_type(node.inputs));
    const Layout first = stored_layout(node.inputs);
    std::vector<Value> inputs;
    for (Value input : node.inputs) {
      Value value = mapped_[input.id];
      if (is_activation(graph, value)) {
        const bool image = rule == LayoutRule::kImage && inputs.empty() &&
                           graph.shape(value)[1] <= kFewChannels;
        Layout wanted = result_.layouts[value.id];
        if (rule == LayoutRule::kPlain) wanted = Layout::kPlain;
        if (makes_blocked(rule) && !image) wanted = Layout::kBlocked;
        if (rule == LayoutRule::kFollow) wanted = first;
        const Type stored = result_.types[value.id];
        value = stored_as(value, wanted, image ? stored : types.of_input(stored));
      }
      inputs.push_back(value);
    }
    const std::vector<Value> outputs = graph.add(node.op, inputs);
    const Layout produced = makes_blocked(rule)           ? Layout::kBlocked
                            : rule == LayoutRule::kFollow ? first
                                                          : Layout::kPlain;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const bool activation = is_activation(graph, outputs[i]);
      result_.layouts.push_back(activation ? produced : Layout::kPlain);
      result_.types.push_back(activation ? types.of_outputs() : graph.spec(outputs[i]).type);
      mapped_[node.outputs[i].id] = outputs[i];
      const int statistic = source_.values()[node.outputs[i].id].statistic;
      if (statistic >= 0) {
        graph.statistic(graph.parameter(source_.parameters()[statistic]), outputs[i]);
      }
    }
  }

  // How the first of some values is stored; plain fp32 where there is none.
  Layout stored_layout(const std::vector<Value>& inputs) const {
    return inputs.empty() ? Layout::kPlain : result_.layouts[mapped_[inputs[0].id].id];
  }
  Type stored_type(const std::vector<Value>& inputs) const {
    return inputs.empty() ? Type::kF32 : result_.types[mapped_[inputs[0].id].id];
  }

  Value stored_as(Value value, Layout layout, Type type) {
    if (!is_activation(result_.graph, value)) return value;
    const bool moves = result_.layouts[value.id] != layout;
    if (!moves && result_.types[value.id] == type) return value;
    auto [entry, inserted] = copies_.try_emplace({value.id, layout, type});
    if (inserted) {
      entry->second = result_.graph.add(moves ? make_reorder() : make_cast(), {value})[0];
      result_.layouts.push_back(layout);
      result_.types.push_back(type);
    }
    return entry->second;
  }

  const Graph& source_;
  Precision precision_;
  LaidOutGraph result_;
  std::vector<Value> mapped_;  // source value -> value here
  std::map<std::tuple<int, Layout, Type>, Value> copies_;  // a value here, stored another way
};

}  // namespace

LaidOutGraph choose_layouts(const Graph& graph, Precision precision) {
  return Builder(graph, precision).build();
}

}  // namespace models
