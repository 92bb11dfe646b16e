#pragma once

#include "models/graph/graph.h"

namespace models {

// y = max(x, 0)
Value relu(Graph& graph, Value x);

class ReluOp final : public Op {
 public:
  std::string name() const override { return "relu"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    return {inputs[0]};
  }
  Saved saved() const override { return {{}, {0}}; }
  PrecisionRule precision() const override { return PrecisionRule::kFollow; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override;
};

}  // namespace models
