#pragma once

#include <memory>

#include "models/ops/folding.h"
#include "models/ops/onednn.h"
#include "models/ops/weight_order.h"

namespace models::onednn {

// What a WeightSource (folding.h) makes: scale and shift are recomputed when parameters may have
// changed; without a normalisation there is no scale. Both are padded with zeros to whole blocks of
// channels. Shared by every convolution that reads the same weight.
class FoldedWeights {
 public:
  FoldedWeights(const WeightSource& source, comm::StreamView stream);

  const Tensor& weight() const { return source_.weight; }  // w
  const float* shift(std::int64_t version);                // (O); without a norm the bias, or null
  const float* scale(std::int64_t version);                // s, (O); null without a norm

 private:
  void refresh(std::int64_t version);

  WeightSource source_;
  comm::StreamView stream_;
  comm::Buffer shift_, scale_;
  std::int64_t version_ = -1;
};

// w, or w' with the norm folded in, in the physical order a primitive asked for: the parameter
// itself where that is all there is to it.
class OrderedWeights {
 public:
  OrderedWeights(std::shared_ptr<FoldedWeights> folded, const dnnl::memory::desc& wanted,
                 bool folds, comm::StreamView stream);
  // Another convolution reads them; `once`: in one pass of a micro-batch. They are kept until the
  // parameters change, but what moves between tiles for one pass alone is made anew.
  void add_reader(bool once);
  // `room`: memory of the caller, room_bytes(), for this call's result.
  const float* get(std::int64_t version, float* room = nullptr);
  std::int64_t room_bytes() const { return moves() && !kept() ? order_.bytes() : 0; }

 private:
  void arrange(std::int64_t version, float* to);
  bool moves() const { return folds_ || !order_.is_the_parameters(); }
  bool kept() const { return data_.size_bytes() != 0; }

  std::shared_ptr<FoldedWeights> folded_;
  WeightOrder order_;
  bool folds_;
  comm::StreamView stream_;
  comm::Buffer data_;
  std::int64_t version_ = -1;
  int num_readers_ = 0;
};

std::shared_ptr<FoldedWeights> folded_weights(const KernelContext& context,
                                              const WeightSource& source);
std::shared_ptr<OrderedWeights> ordered_weights(const KernelContext& context,
                                                const WeightSource& source,
                                                const dnnl::memory::desc& wanted, bool folds,
                                                bool once);

}  // namespace models::onednn
