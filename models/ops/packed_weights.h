#pragma once

#include <memory>

#include "models/ops/weight_packing.h"

namespace models {

// What the convolutions of a GPU read of their parameters: w' of a WeightSource (folding.h) in a
// PackedOrder, and its shift per output channel. Recomputed from the fp32 parameters when they may
// have changed, those of all convolutions at once (WeightPacking): weights that are not trained,
// too, since they are not told from those that were loaded. Weights that are right as they are pass
// through. Shared by every convolution that reads the same weight in the same order.
class PackedWeights {
 public:
  PackedWeights(const WeightSource& source, const PackedOrder& order, const KernelContext& context);

  void* weight(std::int64_t version);
  const float* shift(std::int64_t version);        // (O), zeros when there is neither bias nor norm
  const void* engine_shift(std::int64_t version);  // the same in the type of the order
  const float* scale(std::int64_t version);        // s, (O); null without a norm

 private:
  WeightSource source_;
  std::shared_ptr<WeightPacking> packing_;
  int group_ = 0;
  comm::Buffer weight_, shift_, scale_;  // empty where a parameter passes through
  comm::Buffer narrow_shift_;            // empty in fp32
};

std::shared_ptr<PackedWeights> packed_weights(const KernelContext& context,
                                              const WeightSource& source, const PackedOrder& order);

// gradient (+)= scale(o) packed(o, ...), back in the order of the parameter and fp32. `scale` may
// be null. gradient: (O, I, R, S); it and `packed` are aligned to 16 bytes.
void give_packed_gradient(comm::StreamView stream, const std::byte* packed,
                          const PackedOrder& order, const float* scale, const Tensor& gradient,
                          GradientMode mode);

// True when packing leaves every element as it is, where it is.
bool packs_in_place(const Shape& weight, const PackedOrder& order);

}  // namespace models
