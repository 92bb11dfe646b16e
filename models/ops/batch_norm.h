#pragma once

#include "models/graph/graph.h"

namespace models {

// Batch normalisation with the statistics of this micro-batch (Ioffe and Szegedy 2015):
//   y = (x - mean) / sqrt(variance + eps) * gamma + beta, biased variance over (N, H, W).
// Its mean and unbiased variance become the running statistics' contribution of the micro-batch.
//   x: (N, C, H, W); gamma, beta, running_mean, running_variance: (C)
struct BatchNormParameters {
  Value gamma, beta, running_mean, running_variance;
};
Value batch_norm(Graph& graph, Value x, const BatchNormParameters& parameters, float eps);

// Batch normalisation with what it absorbs: y = relu(batch_norm(x) + residual).
// Inputs: x, gamma, beta, [residual]. Outputs: y, mean, variance, unbiased variance.
class BatchNormOp final : public Op {
 public:
  struct Fused {
    bool residual = false;
    bool relu = false;
  };
  static constexpr int kResidual = 3;  // position of that input
  explicit BatchNormOp(float eps) : BatchNormOp(eps, Fused{}) {}
  BatchNormOp(float eps, const Fused& fused) : eps_(eps), fused_(fused) {}
  std::string name() const override { return "batch_norm"; }
  std::string attributes() const override;
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override;
  Saved saved() const override;
  LayoutRule layout() const override { return LayoutRule::kBlocked; }
  PrecisionRule precision() const override { return PrecisionRule::kFollow; }
  std::shared_ptr<const Op> absorb(const Op& consumer, int slot) const override;
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override;
  float eps() const { return eps_; }
  const Fused& fused() const { return fused_; }

 private:
  float eps_;
  Fused fused_;
};

std::unique_ptr<Kernel> compile_batch_norm_onednn(const BatchNormOp& op,
                                                  const KernelContext& context);
std::unique_ptr<Kernel> compile_batch_norm_gpu(const BatchNormOp& op,
                                               const KernelContext& context);

}  // namespace models
