#include "models/ops/prepared_weights.h"

#include <fmt/format.h>

namespace models::onednn {
namespace {

constexpr std::int64_t kWidestBlock = 16;  // of channels

std::string key(const WeightSource& source) {
  return fmt::format("weights {} {} {}", fmt::ptr(source.weight.data), fmt::ptr(source.bias.data),
                     fmt::ptr(source.gamma.data));
}

comm::Buffer floats(std::int64_t count) {
  return comm::Buffer(comm::Device{}, static_cast<std::size_t>(count) * sizeof(float),
                      comm::Fill::kZero);
}

}  // namespace

FoldedWeights::FoldedWeights(const WeightSource& source, comm::StreamView stream)
    : source_(source), stream_(stream) {
  if (!source.gamma) return;
  const std::int64_t padded = (source.weight.shape[0] + kWidestBlock - 1) / kWidestBlock;
  shift_ = floats(padded * kWidestBlock);
  scale_ = floats(padded * kWidestBlock);
}

void FoldedWeights::refresh(std::int64_t version) {
  if (version_ == version) return;
  version_ = version;
  const Folding fold(source_, scale_.as<float>().data(), shift_.as<float>().data());
  for (std::int64_t o = 0; o < source_.weight.shape[0]; ++o) fold(o);
}

const float* FoldedWeights::shift(std::int64_t version) {
  if (!source_.gamma) return source_.bias ? source_.bias.f32() : nullptr;
  refresh(version);
  return shift_.as<float>().data();
}

const float* FoldedWeights::scale(std::int64_t version) {
  if (!source_.gamma) return nullptr;
  refresh(version);
  return scale_.as<float>().data();
}

OrderedWeights::OrderedWeights(std::shared_ptr<FoldedWeights> folded,
                               const dnnl::memory::desc& wanted, bool folds,
                               comm::StreamView stream)
    : folded_(std::move(folded)),
      order_(wanted, folded_->weight().shape[1], folded_->weight().tile),
      folds_(folds),
      stream_(stream) {}

void OrderedWeights::arrange(std::int64_t version, float* to) {
  order_.arrange(stream_, folded_->weight().f32(), folds_ ? folded_->scale(version) : nullptr, to);
}

void OrderedWeights::add_reader(bool once) {
  if (kept() || !moves()) return;
  if (++num_readers_ == 1 && once && order_.is_between_tiles()) return;
  data_ = floats(order_.bytes() / static_cast<std::int64_t>(sizeof(float)));
}

const float* OrderedWeights::get(std::int64_t version, float* room) {
  if (!moves()) return folded_->weight().f32();
  if (!kept()) {
    arrange(version, room);
    return room;
  }
  float* data = data_.as<float>().data();
  if (version_ != version) arrange(version, data);
  version_ = version;
  return data;
}

std::shared_ptr<FoldedWeights> folded_weights(const KernelContext& context,
                                              const WeightSource& source) {
  return context.shared->get<FoldedWeights>(
      key(source), [&] { return std::make_shared<FoldedWeights>(source, context.stream); });
}

std::shared_ptr<OrderedWeights> ordered_weights(const KernelContext& context,
                                                const WeightSource& source,
                                                const dnnl::memory::desc& wanted, bool folds,
                                                bool once) {
  const std::string order(reinterpret_cast<const char*>(&wanted.data), sizeof(wanted.data));
  const auto weights =
      context.shared->get<OrderedWeights>(key(source) + (folds ? " folded" : " ") + order, [&] {
        return std::make_shared<OrderedWeights>(folded_weights(context, source), wanted, folds,
                                                context.stream);
      });
  weights->add_reader(once);
  return weights;
}

}  // namespace models::onednn
