#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "comm/buffer.h"
#include "comm/parallel.h"
#include "comm/stream.h"
#include "trainer/optim/update.h"

namespace trainer {

// torch.nn.utils.clip_grad_norm_: max_norm / (norm + 1e-6), at most 1.
RIDGELINE_HD inline float clip_factor(double max_norm, double squared_norm) {
  const double factor = max_norm / (std::sqrt(squared_norm) + 1e-6);
  return static_cast<float>(factor < 1.0 ? factor : 1.0);
}

// Global-norm clipping where one rank has all gradients: the factor is found where it is read, the
// host learns nothing of it. Blocks are added in their order to the squared norms of tensors, and
// those in theirs, so that the factor is that of any number of ranks.
class NormClip {
 public:
  NormClip() = default;  // of nothing
  // segment_of_block: the tensor of each block, ascending where it is not -1.
  NormClip(comm::StreamView stream, double max_norm,
           const std::vector<std::int32_t>& segment_of_block, std::size_t num_segments);

  // ASYNC: step->clip from the `gradient` of each block; all memory of the device.
  void launch(comm::StreamView stream, std::span<const BlockSums> sums, StepScalars* step) const;

 private:
  double max_norm_ = 0;
  std::int64_t num_segments_ = 0;
  comm::Buffer ranges_;   // of blocks, by tensor
  comm::Buffer squares_;  // squared norms, by tensor
};

}  // namespace trainer
