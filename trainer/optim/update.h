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

// What changes from step to step and is the same for all tensors.
struct StepScalars {
  float clip = 1;         // factor of global-norm clipping
  float correction1 = 1;  // Adam: 1 - beta1^t, t updates with this one
  float root2 = 1;        // sqrt(1 - beta2^t)
};
// `step`: number of updates before this one.
StepScalars step_scalars(const OptimizerConfig& rule, std::int64_t step, float clip);

// One shard of a bucket: blocks of 1024 elements, each of one segment. All in memory of the device.
struct ShardView {
  std::span<float> parameters;      // updated in place
  std::span<const float> gradient;  // sums over micro-batches; read only
  float* state1 = nullptr;          // momentum | exp_avg | sum | square_avg
  float* state2 = nullptr;          // exp_avg_sq | momentum of RMSprop
  float* ema = nullptr;             // null: off
  const std::int32_t* segment_of_block = nullptr;
  const Segment* segments = nullptr;  // these two are read by each launch, recorded or not
  const StepScalars* step = nullptr;
};

// The same in every step.
struct UpdateScalars {
  OptimizerConfig rule;
  float gradient_scale = 1;  // 1 / M
  float ema_decay = 0;
  // False: less work; nobody reads the norms.
  bool measures = true;
};

// Sums over one block, for norms that do not depend on the number of ranks.
struct BlockSums {
  double gradient = 0;  // sum g^2, g the mean gradient with its loss-mode decay
  double weight = 0;    // sum w^2 before the update
  double update = 0;    // sum (w_new - w_old)^2, of statistics too
  double zeros = 0;     // exact zeros after the update
};

// Lanes in which a block is added, and in which a GPU updates it.
inline constexpr std::int64_t kLanes = 32;

// Where an update writes what it found. In memory of the device.
struct FoundView {
  // A block each. On a CPU, without measures, they say whether all is finite, not how large it is;
  // on a GPU they are then left alone.
  std::span<BlockSums> sums;
  // On a GPU: kLanes a block, for the time of the call, and what becomes 1 where a gradient
  // or a new value is not finite. That value is not written: what it came from stays to be found.
  std::span<BlockSums> lanes;
  std::int32_t* non_finite = nullptr;
};

// Sum g^2 and sum w^2 before an update, for rules that need norms first (clipping, LARS).
void shard_norms(comm::StreamView stream, const ShardView& shard, float gradient_scale,
                 const FoundView& found);

// One pass over the shard: decay, momentum, update, L1, EMA and the sums. Formulas as PyTorch's
// (torch.optim), LARS as You et al. 2017. A thread takes whole blocks on a CPU, a lane of a block
// on a GPU; sums are added in the same order.
void update_shard(comm::StreamView stream, const ShardView& shard, const UpdateScalars& scalars,
                  const FoundView& found);

}  // namespace trainer
