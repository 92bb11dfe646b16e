#pragma once

#include <memory>

#include "models/ops/folding.h"
#include "models/ops/onednn.h"
#include "models/ops/weight_order.h"

namespace models::onednn {

// What a WeightSource (folding.h) makes: scale and bias are recomputed when parameters may have
// changed; without a normalisation there is no scale. Shared by every convolution that reads the
// same weight.
class FoldedWeights {
 public:
  FoldedWeights(const WeightSource& source, comm::StreamView stream);

  const float* weight() const { return source_.weight.f32(); }  // w, (O, I, R, S)
  std::int64_t inputs() const { return source_.weight.shape[1]; }
  const float* bias(std::int64_t version);    // (O), null when there is neither bias nor norm
  const float* scale(std::int64_t version);   // s, (O); null without a norm

 private:
  void refresh(std::int64_t version);

  WeightSource source_;
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
                                              const WeightSource& source);
std::shared_ptr<OrderedWeights> ordered_weights(const KernelContext& context,
                                                const WeightSource& source,
                                                const dnnl::memory::desc& wanted);

}  // namespace models::onednn
