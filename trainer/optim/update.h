#pragma once

#include <cstdint>
#include <span>

#include "comm/stream.h"
#include "trainer/config/config.h"

namespace trainer {

// What the update does to one tensor. Coefficients already contain convention, schedule and the
// tensor's learning-rate scale.
struct Segment {
  bool statistic = false;  // running += 0.1 (mean over micro-batches - running)
  float lr = 0;
  float loss_decay = 0;       // c: joins the gradient before the clip norm
  float coupled_decay = 0;    // c: joins it after clipping
  float decoupled_decay = 0;  // w *= 1 - d
  float soft_threshold = 0;   // of L1, per unit of the metric
  float trust = 1;            // LARS: local rate of the tensor
};

// One shard of a bucket: blocks of 1024 elements, each of one segment.
struct ShardView {
  std::span<float> parameters;      // updated in place
  std::span<const float> gradient;  // sums over micro-batches; read only
  float* state1 = nullptr;          // momentum | exp_avg | sum | square_avg
  float* state2 = nullptr;          // exp_avg_sq | momentum of RMSprop
  float* ema = nullptr;             // null: off
  const std::int32_t* segment_of_block = nullptr;
};

struct UpdateScalars {
  OptimizerConfig rule;
  float gradient_scale = 1;  // 1 / M
  float clip = 1;            // factor of global-norm clipping
  std::int64_t step = 0;     // number of updates before this one
  float ema_decay = 0;
  // False: less work; the sums say whether all is finite, not how large it is.
  bool measures = true;
};

// Sums over one block, for norms that do not depend on the number of ranks.
struct BlockSums {
  double gradient = 0;  // sum g^2, g the mean gradient with its loss-mode decay
  double weight = 0;    // sum w^2 before the update
  double update = 0;    // sum (w_new - w_old)^2, of statistics too
  double zeros = 0;     // exact zeros after the update
};

// Sum g^2 and sum w^2 before an update, for rules that need norms first (clipping, LARS).
void shard_norms(comm::StreamView stream, const ShardView& shard, std::span<const Segment> segments,
                 float gradient_scale, std::span<BlockSums> sums);

// One pass over the shard: decay, momentum, update, L1, EMA and the sums. Formulas as PyTorch's
// (torch.optim), LARS as You et al. 2017.
void update_shard(comm::StreamView stream, const ShardView& shard,
                  std::span<const Segment> segments, const UpdateScalars& scalars,
                  std::span<BlockSums> sums);

}  // namespace trainer
