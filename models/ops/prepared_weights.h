#pragma once

#include <memory>

#include "models/ops/onednn.h"
#include "models/ops/weight_order.h"

namespace models::onednn {

// Weights and bias with a frozen normalisation folded in, exactly:
//   s = gamma / sqrt(variance + eps);  w'(o, ...) = s(o) w(o, ...);  b'(o) = beta + s (b - mean)
// Scale and bias are recomputed when parameters may have changed; without a normalisation there is
// no scale. Shared by every convolution that reads the same weight.
class FoldedWeights {
 public:
  struct Source {
    Tensor weight;  // (O, I, R, S)
    Tensor bias;    // (O) or null
    Tensor gamma, beta, mean, variance;  // (O) or all null
    float eps = 0.0f;
  };
  FoldedWeights(const Source& source, comm::StreamView stream);

  const float* weight() const { return source_.weight.f32(); }  // w, (O, I, R, S)
  const float* bias(std::int64_t version);    // (O), null when there is neither bias nor norm
  const float* scale(std::int64_t version);   // s, (O); null without a norm

 private:
  void refresh(std::int64_t version);

  Source source_;
  comm::StreamView stream_;
  comm::Buffer bias_, scale_;
  std::int64_t version_ = -1;
};

// w' in the physical order a primitive asked for.
class OrderedWeights {
 public:
  OrderedWeights(std::shared_ptr<FoldedWeights> folded, const dnnl::memory::desc& wanted,
                 comm::StreamView stream);
  const float* get(std::int64_t version);

 private:
  std::shared_ptr<FoldedWeights> folded_;
  WeightOrder order_;
  comm::StreamView stream_;
  comm::Buffer data_;
  std::int64_t version_ = -1;
};

std::shared_ptr<FoldedWeights> folded_weights(const KernelContext& context,
                                              const FoldedWeights::Source& source);
std::shared_ptr<OrderedWeights> ordered_weights(const KernelContext& context,
                                                const FoldedWeights::Source& source,
                                                const dnnl::memory::desc& wanted);

}  // namespace models::onednn
