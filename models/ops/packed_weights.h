#pragma once

#include <memory>

#include "comm/buffer.h"
#include "models/graph/op.h"
#include "models/ops/folding.h"

namespace models {

// How the convolutions of a GPU read weights: in the order (O, R, S, I) where channels come last,
// else (O, I, R, S), as fp32 or bf16.
struct PackedOrder {
  bool channels_last = true;
  Type type = Type::kF32;
  bool operator==(const PackedOrder&) const = default;
};

// What the convolutions of a GPU read of their parameters: w' of a WeightSource (folding.h) in a
// PackedOrder, and its shift per output channel. Recomputed from the fp32 parameters when they may
// have changed. Weights that are right as they are pass through. Shared by every convolution that
// reads the same weight in the same order.
class PackedWeights {
 public:
  PackedWeights(const WeightSource& source, const PackedOrder& order, const KernelContext& context);

  void* weight(std::int64_t version);
  const float* shift(std::int64_t version);        // (O), zeros when there is neither bias nor norm
  const void* engine_shift(std::int64_t version);  // the same in the type of the order
  const float* scale(std::int64_t version);        // s, (O); null without a norm

 private:
  void refresh(std::int64_t version);

  WeightSource source_;
  PackedOrder order_;
  comm::StreamView stream_;
  comm::Buffer weight_, shift_, scale_;  // empty where a parameter passes through
  comm::Buffer narrow_shift_;            // empty in fp32
  std::int64_t version_ = -1;
};

std::shared_ptr<PackedWeights> packed_weights(const KernelContext& context,
                                              const WeightSource& source, const PackedOrder& order);

// gradient (+)= scale(o) packed(o, ...), back in the order of the parameter and fp32. `scale` may
// be null. gradient: (O, I, R, S)
void give_packed_gradient(comm::StreamView stream, const std::byte* packed,
                          const PackedOrder& order, const float* scale, const Tensor& gradient,
                          GradientMode mode);

// True when packing leaves every element as it is, where it is.
bool packs_in_place(const Shape& weight, const PackedOrder& order);

}  // namespace models
