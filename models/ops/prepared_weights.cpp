#include "models/ops/prepared_weights.h"

#include <fmt/format.h>

namespace models::onednn {
namespace {

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
  bias_ = floats(source.weight.shape[0]);
  scale_ = floats(source.weight.shape[0]);
}

void FoldedWeights::refresh(std::int64_t version) {
  if (version_ == version) return;
  version_ = version;
  const Folding fold(source_, scale_.as<float>().data(), bias_.as<float>().data());
  for (std::int64_t o = 0; o < source_.weight.shape[0]; ++o) fold(o);
}

const float* FoldedWeights::bias(std::int64_t version) {
  if (!source_.gamma) return source_.bias ? source_.bias.f32() : nullptr;
  refresh(version);
  return bias_.as<float>().data();
}

const float* FoldedWeights::scale(std::int64_t version) {
  if (!source_.gamma) return nullptr;
  refresh(version);
  return scale_.as<float>().data();
}

OrderedWeights::OrderedWeights(std::shared_ptr<FoldedWeights> folded,
                               const dnnl::memory::desc& wanted, comm::StreamView stream)
    : folded_(std::move(folded)),
      order_(wanted, folded_->inputs()),
      stream_(stream),
      data_(floats(order_.bytes() / static_cast<std::int64_t>(sizeof(float)))) {}

const float* OrderedWeights::get(std::int64_t version) {
  float* data = data_.as<float>().data();
  if (version_ != version) {
    version_ = version;
    order_.arrange(stream_, folded_->weight(), folded_->scale(version), data);
  }
  return data;
}

std::shared_ptr<FoldedWeights> folded_weights(const KernelContext& context,
                                              const WeightSource& source) {
  return context.shared->get<FoldedWeights>(
      key(source), [&] { return std::make_shared<FoldedWeights>(source, context.stream); });
}

std::shared_ptr<OrderedWeights> ordered_weights(const KernelContext& context,
                                                const WeightSource& source,
                                                const dnnl::memory::desc& wanted) {
  const std::string order(reinterpret_cast<const char*>(&wanted.data), sizeof(wanted.data));
  return context.shared->get<OrderedWeights>(key(source) + order, [&] {
    return std::make_shared<OrderedWeights>(folded_weights(context, source), wanted,
                                            context.stream);
  });
}

}  // namespace models::onednn
