#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/graph/op.h"
#include "models/graph/parameter.h"
#include "models/graph/value.h"

namespace models {

// One op in a graph. `scope` is the module path for people ("backbone.body.layer1.0.conv1").
struct Node {
  std::shared_ptr<const Op> op;
  std::vector<Value> inputs;
  std::vector<Value> outputs;
  std::string scope;
};

// A description of what is computed: ops over values, in topological order, shapes known, no
// device. Built once by a model through the builder functions beside each op, then read by passes.
class Graph {
 public:
  enum class Role : std::uint8_t { kInput, kParameter, kActivation };
  struct ValueInfo {
    ValueSpec spec;
    Role role = Role::kActivation;
    std::string name;    // inputs and parameters
    int producer = -1;   // node, or -1
    int parameter = -1;  // index into parameters(), or -1
    int statistic = -1;  // parameter whose new value this one is, or -1
  };
  struct Named {
    std::string name;
    Value value;
    float weight = 1.0f;  // losses: factor in the total
  };

  // A field of the batch, by its name ("image").
  Value input(const std::string& name, ValueSpec spec);
  // REQUIRES: one description a name; asking again with the same name gives the same value, which
  // is how weights are shared.
  Value parameter(const Parameter& parameter);
  // Declares an int64 counter of the checkpoint; it is no value of the computation.
  void counter(const std::string& name);
  // Appends an op; shapes are inferred. Errors: kConfig from an op that rejects its inputs.
  std::vector<Value> add(std::shared_ptr<const Op> op, std::vector<Value> inputs);

  void loss(const std::string& name, Value scalar, float weight);  // a term of what is minimised
  void output(const std::string& name, Value value);               // kept until the end of a run
  // `value` is what one micro-batch contributes to the running statistic `parameter`.
  void statistic(Value parameter, Value value);

  const ValueSpec& spec(Value value) const { return values_[value.id].spec; }
  const Shape& shape(Value value) const { return values_[value.id].spec.shape; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<ValueInfo>& values() const { return values_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const std::vector<Named>& losses() const { return losses_; }
  const std::vector<Named>& outputs() const { return outputs_; }
  const std::vector<std::string>& counters() const { return counters_; }

  // Module path of the ops added while the object lives.
  class Scope {
   public:
    Scope(Graph& graph, std::string_view name);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Graph& graph_;
    std::size_t length_;
  };
  const std::string& scope() const { return scope_; }
  std::string qualified(std::string_view name) const;  // scope.name

 private:
  friend Graph fuse(const Graph& graph, std::span<const std::string> disabled);
  std::vector<Node> nodes_;
  std::vector<ValueInfo> values_;
  std::vector<Parameter> parameters_;
  std::vector<Named> losses_;
  std::vector<Named> outputs_;
  std::vector<std::string> counters_;
  std::string scope_;
};

}  // namespace models
