#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "comm/error.h"
#include "models/graph/plan.h"

// Ops without meaning, for tests of the passes: y = the sum of the inputs.
namespace models::testing {

struct TestOpOptions {
  LayoutRule layout = LayoutRule::kFollow;
  std::vector<std::string> absorbs;  // names of consumers
  Saved saved;
  std::vector<int> constant_inputs;  // not differentiable
  int num_outputs = 1;               // all of the first input's shape
  bool scalar = false;               // one output of shape {1}: the sum of all elements
  PrecisionRule precision = PrecisionRule::kF32;
};

class TestKernel final : public Kernel {
 public:
  void forward(const KernelArgs& args) override {
    for (const Tensor& y : args.outputs) {
      if (y.physical_count() == args.inputs[0].physical_count()) {
        for (std::int64_t i = 0; i < y.physical_count(); ++i) {
          y.f32()[i] = 0;
          for (const Tensor& x : args.inputs) y.f32()[i] += x.f32()[i];
        }
      } else {
        y.f32()[0] = 0;
        for (const Tensor& x : args.inputs) {
          for (std::int64_t i = 0; i < x.physical_count(); ++i) y.f32()[0] += x.f32()[i];
        }
      }
    }
  }
  void backward(const KernelArgs& args) override {
    for (std::size_t k = 0; k < args.dinputs.size(); ++k) {
      if (args.modes[k] == GradientMode::kNone) continue;
      const Tensor& dx = args.dinputs[k];
      for (std::int64_t i = 0; i < dx.physical_count(); ++i) {
        float d = 0;
        for (const Tensor& dy : args.doutputs) {
          if (dy) d += dy.f32()[dy.physical_count() == dx.physical_count() ? i : 0];
        }
        dx.f32()[i] = (args.modes[k] == GradientMode::kAccumulate ? dx.f32()[i] : 0) + d;
      }
    }
  }
};

class TestOp final : public Op {
 public:
  TestOp(std::string name, TestOpOptions options)
      : name_(std::move(name)), options_(std::move(options)) {}
  std::string name() const override { return name_; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    if (options_.scalar) return {{Type::kF32, {1}}};
    return std::vector<ValueSpec>(static_cast<std::size_t>(options_.num_outputs), inputs[0]);
  }
  Saved saved() const override { return options_.saved; }
  bool differentiable(int input) const override {
    const auto& c = options_.constant_inputs;
    return std::find(c.begin(), c.end(), input) == c.end();
  }
  LayoutRule layout() const override { return options_.layout; }
  PrecisionRule precision() const override { return options_.precision; }
  std::shared_ptr<const Op> absorb(const Op& consumer, int slot) const override {
    const auto& names = options_.absorbs;
    if (std::find(names.begin(), names.end(), consumer.name()) == names.end()) return nullptr;
    return std::make_shared<TestOp>(name_ + "+" + consumer.name() + std::to_string(slot), options_);
  }
  std::unique_ptr<Kernel> compile(const KernelContext&) const override {
    return std::make_unique<TestKernel>();
  }

 private:
  std::string name_;
  TestOpOptions options_;
};

inline Value apply(Graph& graph, const std::string& name, std::vector<Value> inputs,
                   TestOpOptions options = {}) {
  return graph.add(std::make_shared<TestOp>(name, std::move(options)), std::move(inputs))[0];
}
inline void sum_loss(Graph& graph, const std::string& name, Value x, float weight = 1.0f) {
  graph.loss(name, apply(graph, "sum", {x}, {.layout = LayoutRule::kPlain, .scalar = true}),
             weight);
}
inline Value weight(Graph& graph, const std::string& name, const Shape& shape,
                    bool trainable = true) {
  Parameter parameter{name, shape};
  parameter.trainable = trainable;
  return graph.parameter(parameter);
}

// "name name ..." of the nodes.
inline std::string names(const Graph& graph) {
  std::string text;
  for (const Node& node : graph.nodes()) text += (text.empty() ? "" : " ") + node.op->name();
  return text;
}

// "f:name b:name r0 n0 ...": forward, backward, bucket ready, bucket needed.
inline std::string order(const Plan& plan) {
  std::string text;
  for (const PlanStep& step : plan.steps) {
    if (!text.empty()) text += " ";
    switch (step.kind) {
      case StepKind::kForward:
        text += "f:" + plan.graph->nodes()[step.node].op->name();
        break;
      case StepKind::kBackward:
        text += "b:" + plan.graph->nodes()[step.node].op->name();
        break;
      case StepKind::kBucketReady:
        text += "r" + std::to_string(step.bucket);
        break;
      case StepKind::kBucketNeeded:
        text += "n" + std::to_string(step.bucket);
        break;
    }
  }
  return text;
}

// The backward step of the first node of that name, or null.
inline const PlanStep* backward_of(const Plan& plan, const std::string& name) {
  for (const PlanStep& step : plan.steps) {
    if (step.kind == StepKind::kBackward && plan.graph->nodes()[step.node].op->name() == name) {
      return &step;
    }
  }
  return nullptr;
}

}  // namespace models::testing
