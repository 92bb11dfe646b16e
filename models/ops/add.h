#pragma once

#include "models/graph/graph.h"

namespace models {

// y = a + b, equal shapes.
Value add(Graph& graph, Value a, Value b);

class AddOp final : public Op {
 public:
  std::string name() const override { return "add"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override;
  PrecisionRule precision() const override { return PrecisionRule::kFollow; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override;
};

}  // namespace models
