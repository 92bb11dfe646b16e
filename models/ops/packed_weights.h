#pragma once

#include <memory>

#include "comm/buffer.h"
#include "models/graph/op.h"

namespace models {

// What the convolutions of a GPU read of their parameters: weights in the order (O, R, S, I) where
// channels come last, else (O, I, R, S), and a shift per output channel, with a frozen
// normalisation folded in exactly:
//   s = gamma / sqrt(variance + eps);  w'(o, ...) = s(o) w(o, ...);  shift = beta + s (b - mean)
// Recomputed when parameters may have changed. Weights that are right as they are pass through.
// Shared by every convolution that reads the same weight.
class PackedWeights {
 public:
  struct Source {
    Tensor weight;                       // (O, I, R, S)
    Tensor bias;                         // (O) or null
    Tensor gamma, beta, mean, variance;  // (O) or all null
    float eps = 0.0f;
    bool channels_last = true;
  };
  PackedWeights(const Source& source, const KernelContext& context);

  float* weight(std::int64_t version);
  const float* shift(std::int64_t version);  // (O), zeros when there is neither bias nor norm
  const float* scale(std::int64_t version);  // s, (O); null without a norm

 private:
  void refresh(std::int64_t version);

  Source source_;
  comm::StreamView stream_;
  comm::Buffer weight_, shift_, scale_;  // empty where a parameter passes through
  std::int64_t version_ = -1;
};

std::shared_ptr<PackedWeights> packed_weights(const KernelContext& context,
                                              const PackedWeights::Source& source);

// gradient (+)= scale(o) packed(o, ...), back in the order of the parameter. `scale` may be null.
// gradient: (O, I, R, S)
void give_packed_gradient(comm::StreamView stream, const float* packed, bool channels_last,
                          const float* scale, const Tensor& gradient, GradientMode mode);

// True when packing leaves every element where it is.
bool packs_in_place(const Shape& weight, bool channels_last);

}  // namespace models
