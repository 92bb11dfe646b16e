#pragma once

#include "models/graph/graph.h"

namespace models {

// y(n, o) = sum_i x(n, i) weight(o, i) + bias(o)
//   x: (N, I), weight: (O, I), bias: (O); y: (N, O)
// The same bits for any number of threads, forward and backward.
Value linear(Graph& graph, Value x, Value weight, Value bias);

// Inputs: x, weight, bias.
class LinearOp final : public Op {
 public:
  std::string name() const override { return "linear"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override;
  Saved saved() const override { return {{0, 1}, {}}; }
  LayoutRule layout() const override { return LayoutRule::kPlain; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override;
};

std::unique_ptr<Kernel> compile_linear_gpu(const KernelContext& context);

}  // namespace models
