#pragma once

#include <span>

#include "models/ops/batch_norm.h"

namespace models {

// Batch normalisation with the statistics of the whole global batch, in two ops: the moments of
// this micro-batch, which a trainer that runs micro-batches in lock-step replaces by those of all
// of them (Op::synchronised), and what the moments in force make of x. Without such a trainer the
// whole batch is this micro-batch. Parameters and formulas as batch_norm's.
Value sync_batch_norm(Graph& graph, Value x, const BatchNormParameters& parameters, float eps);

// The kernels of GPUs: of the moments, and of what they make of x.
std::unique_ptr<Kernel> compile_sync_moments_gpu(const KernelContext& context);
std::unique_ptr<Kernel> compile_sync_norm_gpu(const KernelContext& context, float eps);

// Count, mean and sum of squared deviations of one channel.
struct Moments {
  double count = 0, mean = 0, squares = 0;
};
// Those of both sets together (Chan, Golub and LeVeque 1979).
inline Moments merge(const Moments& a, const Moments& b) {
  const double count = a.count + b.count, delta = b.mean - a.mean;
  if (count == 0) return a;
  return {count, a.mean + delta * (b.count / count),
          a.squares + b.squares + delta * delta * (a.count * b.count / count)};
}

}  // namespace models
