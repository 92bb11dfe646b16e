#include "models/graph/graph.h"

#include <algorithm>

namespace models {

std::string to_string(ParameterKind kind) {
  switch (kind) {
    case ParameterKind::kWeight: return "weight";
    case ParameterKind::kBias: return "bias";
    case ParameterKind::kNorm: return "norm";
    case ParameterKind::kScale: return "scale";
    case ParameterKind::kFixed: return "fixed";
    case ParameterKind::kStatistic: return "statistic";
    case ParameterKind::kCounter: return "counter";
  }
  return "?";
}

void Kernel::backward(const KernelArgs&) { REQUIRE(false, "this op has no backward pass"); }

Value Graph::input(const std::string& name, ValueSpec spec) {
  for (std::size_t i = 0; i < values_.size(); ++i) {
    if (values_[i].role == Role::kInput && values_[i].name == name) {
      REQUIRE(values_[i].spec == spec, "input {} declared twice, differently", name);
      return {static_cast<int>(i)};
    }
  }
  values_.push_back({spec, Role::kInput, name});
  return {static_cast<int>(values_.size()) - 1};
}

Value Graph::parameter(const Parameter& parameter) {
  for (std::size_t i = 0; i < values_.size(); ++i) {
    if (values_[i].role == Role::kParameter && values_[i].name == parameter.name) {
      REQUIRE(values_[i].spec.shape == parameter.shape, "parameter {} declared twice, differently",
              parameter.name);
      return {static_cast<int>(i)};
    }
  }
  ValueInfo info{{Type::kF32, parameter.shape}, Role::kParameter, parameter.name};
  info.parameter = static_cast<int>(parameters_.size());
  parameters_.push_back(parameter);
  values_.push_back(std::move(info));
  return {static_cast<int>(values_.size()) - 1};
}

void Graph::counter(const std::string& name) { counters_.push_back(name); }

std::vector<Value> Graph::add(std::shared_ptr<const Op> op, std::vector<Value> inputs) {
  std::vector<ValueSpec> specs;
  for (Value input : inputs) specs.push_back(spec(input));
  Node node{op, std::move(inputs), {}, scope_};
  for (const ValueSpec& output : op->infer(specs)) {
    ValueInfo info{output};
    info.producer = static_cast<int>(nodes_.size());
    node.outputs.push_back({static_cast<int>(values_.size())});
    values_.push_back(std::move(info));
  }
  nodes_.push_back(std::move(node));
  return nodes_.back().outputs;
}

void Graph::loss(const std::string& name, Value scalar, float weight) {
  REQUIRE(shape(scalar).count() == 1, "loss {} is not a scalar", name);
  losses_.push_back({name, scalar, weight});
}

void Graph::output(const std::string& name, Value value) { outputs_.push_back({name, value}); }

void Graph::statistic(Value parameter, Value value) {
  REQUIRE(shape(parameter) == shape(value), "statistic of another shape");
  values_[value.id].statistic = values_[parameter.id].parameter;
}

std::string Graph::qualified(std::string_view name) const {
  return scope_.empty() ? std::string(name) : scope_ + "." + std::string(name);
}

Graph::Scope::Scope(Graph& graph, std::string_view name)
    : graph_(graph), length_(graph.scope_.size()) {
  graph_.scope_ = graph_.qualified(name);
}

Graph::Scope::~Scope() { graph_.scope_.resize(length_); }

}  // namespace models
