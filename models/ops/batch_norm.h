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

// Inputs: x, gamma, beta. Outputs: y, mean, variance, unbiased variance.
class BatchNormOp final : public Op {
 public:
  explicit BatchNormOp(float eps) : eps_(eps) {}
  std::string name() const override { return "batch_norm"; }
  std::string attributes() const override;
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override;
  Saved saved() const override { return {{0, 1}, {1, 2}}; }
  LayoutRule layout() const override { return LayoutRule::kBlocked; }
  PrecisionRule precision() const override { return PrecisionRule::kFollow; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override;
  float eps() const { return eps_; }

 private:
  float eps_;
};

std::unique_ptr<Kernel> compile_batch_norm_onednn(const BatchNormOp& op,
                                                  const KernelContext& context);
std::unique_ptr<Kernel> compile_batch_norm_gpu(const BatchNormOp& op,
                                               const KernelContext& context);

}  // namespace models
