#pragma once

#include "models/graph/graph.h"

namespace models {

// Group normalisation (Wu and He 2018): mean and biased variance over a group of channels of one
// image. y = (x - mean) / sqrt(variance + eps) * gamma + beta
//   x: (N, C, H, W), C divisible by groups; gamma, beta: (C)
Value group_norm(Graph& graph, Value x, Value gamma, Value beta, int groups, float eps);

// The kernel of GPUs.
std::unique_ptr<Kernel> compile_group_norm_gpu(const KernelContext& context, int groups, float eps);

}  // namespace models
