#include "models/ops/prepared_weights.h"

#include <fmt/format.h>

#include <cmath>

namespace models::onednn {
namespace {

std::string key(const FoldedWeights::Source& source) {
  return fmt::format("weights {} {} {}", fmt::ptr(source.weight.data), fmt::ptr(source.bias.data),
                     fmt::ptr(source.gamma.data));
}

comm::Buffer floats(std::int64_t count) {
  return comm::Buffer(comm::Device{}, static_cast<std::size_t>(count) * sizeof(float),
                      comm::Fill::kZero);
}

}  // namespace

FoldedWeights::FoldedWeights(const Source& source, comm::StreamView stream)
    : source_(source), stream_(stream) {
  if (!source.gamma) return;
  bias_ = floats(source.weight.shape[0]);
  scale_ = floats(source.weight.shape[0]);
}

void FoldedWeights::refresh(std::int64_t version) {
  if (version_ == version) return;
  version_ = version;
  const float *gamma = source_.gamma.f32(), *beta = source_.beta.f32();
  const float *mean = source_.mean.f32(), *variance = source_.variance.f32();
  const float* bias = source_.bias.f32();
  float* shift = bias_.as<float>().data();
  float* scale = scale_.as<float>().data();
  const float eps = source_.eps;
  for (std::int64_t o = 0; o < source_.weight.shape[0]; ++o) {
    const float s = gamma[o] / std::sqrt(variance[o] + eps);
    scale[o] = s;
    shift[o] = beta[o] + s * ((bias ? bias[o] : 0.0f) - mean[o]);
  }
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
      order_(wanted),
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
                                              const FoldedWeights::Source& source) {
  return context.shared->get<FoldedWeights>(
      key(source), [&] { return std::make_shared<FoldedWeights>(source, context.stream); });
}

std::shared_ptr<OrderedWeights> ordered_weights(const KernelContext& context,
                                                const FoldedWeights::Source& source,
                                                const dnnl::memory::desc& wanted) {
  const std::string order(reinterpret_cast<const char*>(&wanted.data), sizeof(wanted.data));
  return context.shared->get<OrderedWeights>(key(source) + order, [&] {
    return std::make_shared<OrderedWeights>(folded_weights(context, source), wanted,
                                            context.stream);
  });
}

}  // namespace models::onednn
