#include "models/ops/prepared_weights.h"

#include <fmt/format.h>

#include <cmath>

#include "comm/parallel.h"

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
  weight_ = floats(source.weight.shape.count());
  bias_ = floats(source.weight.shape[0]);
  scale_ = floats(source.weight.shape[0]);
}

void FoldedWeights::refresh(std::int64_t version) {
  if (version_ == version) return;
  version_ = version;
  const float *gamma = source_.gamma.f32(), *beta = source_.beta.f32();
  const float *mean = source_.mean.f32(), *variance = source_.variance.f32();
  const float* bias = source_.bias.f32();
  const float* from = source_.weight.f32();
  float* to = weight_.as<float>().data();
  float* shift = bias_.as<float>().data();
  float* scale = scale_.as<float>().data();
  const float eps = source_.eps;
  const std::int64_t outputs = source_.weight.shape[0];
  const std::int64_t inner = source_.weight.shape.count() / outputs;
  comm::parallel_for(
      stream_, outputs,
      [=](std::int64_t o) {
        const float s = gamma[o] / std::sqrt(variance[o] + eps);
        scale[o] = s;
        shift[o] = beta[o] + s * ((bias ? bias[o] : 0.0f) - mean[o]);
        for (std::int64_t i = 0; i < inner; ++i) to[o * inner + i] = s * from[o * inner + i];
      },
      16);
}

const float* FoldedWeights::weight(std::int64_t version) {
  if (!source_.gamma) return source_.weight.f32();
  refresh(version);
  return weight_.as<float>().data();
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

OrderedWeights::OrderedWeights(std::shared_ptr<Engine> engine,
                               std::shared_ptr<FoldedWeights> folded,
                               const dnnl::memory::desc& plain, const dnnl::memory::desc& wanted)
    : folded_(std::move(folded)) {
  if (plain == wanted) return;
  reorder_ = make_reorder(std::move(engine), plain, wanted);
  data_ = floats(static_cast<std::int64_t>(wanted.get_size() / sizeof(float)));
  reorder_.set(DNNL_ARG_TO, data_.bytes().data());
}

const float* OrderedWeights::get(std::int64_t version) {
  const float* plain = folded_->weight(version);
  if (!reorder_) return plain;
  if (version_ != version) {
    version_ = version;
    reorder_.set(DNNL_ARG_FROM, plain);
    reorder_.run();
  }
  return data_.as<float>().data();
}

std::shared_ptr<FoldedWeights> folded_weights(const KernelContext& context,
                                              const FoldedWeights::Source& source) {
  return context.shared->get<FoldedWeights>(
      key(source), [&] { return std::make_shared<FoldedWeights>(source, context.stream); });
}

std::shared_ptr<OrderedWeights> ordered_weights(const KernelContext& context,
                                                const FoldedWeights::Source& source,
                                                const dnnl::memory::desc& plain,
                                                const dnnl::memory::desc& wanted) {
  const std::string order(reinterpret_cast<const char*>(&wanted.data), sizeof(wanted.data));
  return context.shared->get<OrderedWeights>(key(source) + order, [&] {
    return std::make_shared<OrderedWeights>(engine(context), folded_weights(context, source), plain,
                                            wanted);
  });
}

}  // namespace models::onednn
