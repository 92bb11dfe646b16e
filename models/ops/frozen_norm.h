#pragma once

#include <array>

#include "models/graph/graph.h"

namespace models {

// y = (x - mean) / sqrt(variance + eps) * gamma + beta with constants per channel: a batch norm
// that is frozen, or one at inference. Convolutions absorb it.
//   x: (N, C, H, W); statistics = {gamma, beta, mean, variance}, each (C)
Value frozen_norm(Graph& graph, Value x, const std::array<Value, 4>& statistics, float eps);

class FrozenNormOp final : public Op {
 public:
  explicit FrozenNormOp(float eps) : eps_(eps) {}
  std::string name() const override { return "frozen_norm"; }
  std::string attributes() const override;
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override;
  Saved saved() const override { return {{1, 2, 3, 4}, {}}; }
  PrecisionRule precision() const override { return PrecisionRule::kFollow; }
  bool differentiable(int input) const override { return input == 0; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override;
  float eps() const { return eps_; }

 private:
  float eps_;
};

}  // namespace models
