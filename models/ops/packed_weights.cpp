#include "models/ops/packed_weights.h"

#include <fmt/format.h>

#include <cmath>

#include "comm/parallel.h"

namespace models {
namespace {

// Element i of (O, I, R, S) in the order (O, R, S, I), and back.
struct Order {
  std::int64_t inputs, taps;  // I, R S

  explicit Order(const Shape& weight) : inputs(weight[1]), taps(weight[2] * weight[3]) {}
  RIDGELINE_HD std::int64_t output(std::int64_t i) const { return i / (inputs * taps); }
  RIDGELINE_HD std::int64_t last_from_first(std::int64_t i) const {
    return (output(i) * taps + i % taps) * inputs + i / taps % inputs;
  }
  RIDGELINE_HD std::int64_t first_from_last(std::int64_t i) const {
    return (output(i) * inputs + i % inputs) * taps + i / inputs % taps;
  }
};

struct ScaleAndShift {
  const float *gamma, *beta, *mean, *variance, *bias;  // bias may be null
  float *scale, *shift;
  float eps;
  RIDGELINE_HD void operator()(std::int64_t o) const {
    const float s = gamma[o] / std::sqrt(variance[o] + eps);
    scale[o] = s;
    shift[o] = beta[o] + s * ((bias ? bias[o] : 0.0f) - mean[o]);
  }
};

struct Pack {
  Order order;
  bool channels_last;
  const float *weight, *scale;  // scale may be null
  float* packed;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const float w = weight[channels_last ? order.first_from_last(i) : i];
    packed[i] = scale ? scale[order.output(i)] * w : w;
  }
};

struct GiveGradient {
  Order order;
  bool channels_last;
  const float *packed, *scale;  // scale may be null
  float* gradient;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const float d = packed[channels_last ? order.last_from_first(i) : i];
    const float scaled = scale ? scale[order.output(i)] * d : d;
    gradient[i] = accumulate ? gradient[i] + scaled : scaled;
  }
};

comm::Buffer floats(const KernelContext& context, std::int64_t count) {
  return comm::Buffer(context.device, static_cast<std::size_t>(count) * sizeof(float),
                      comm::Fill::kZero);
}

}  // namespace

PackedWeights::PackedWeights(const Source& source, const KernelContext& context)
    : source_(source), stream_(context.stream) {
  const std::int64_t outputs = source.weight.shape[0];
  if (source.gamma) scale_ = floats(context, outputs);
  if (source.gamma || !source.bias) shift_ = floats(context, outputs);
  if (source.gamma || !packs_in_place(source.weight.shape, source.channels_last)) {
    weight_ = floats(context, source.weight.shape.count());
  }
}

void PackedWeights::refresh(std::int64_t version) {
  if (version_ == version) return;
  version_ = version;
  const Shape& shape = source_.weight.shape;
  const float* scale = nullptr;
  if (source_.gamma) {
    scale = scale_.as<float>().data();
    comm::parallel_for(
        stream_, shape[0],
        ScaleAndShift{source_.gamma.f32(), source_.beta.f32(), source_.mean.f32(),
                      source_.variance.f32(), source_.bias.f32(), scale_.as<float>().data(),
                      shift_.as<float>().data(), source_.eps});
  }
  if (weight_.size_bytes() == 0) return;
  comm::parallel_for(stream_, shape.count(),
                     Pack{Order(shape), source_.channels_last, source_.weight.f32(), scale,
                          weight_.as<float>().data()});
}

float* PackedWeights::weight(std::int64_t version) {
  if (weight_.size_bytes() == 0) return source_.weight.f32();
  refresh(version);
  return weight_.as<float>().data();
}

const float* PackedWeights::shift(std::int64_t version) {
  if (shift_.size_bytes() == 0) return source_.bias.f32();
  refresh(version);
  return shift_.as<float>().data();
}

const float* PackedWeights::scale(std::int64_t version) {
  if (scale_.size_bytes() == 0) return nullptr;
  refresh(version);
  return scale_.as<float>().data();
}

std::shared_ptr<PackedWeights> packed_weights(const KernelContext& context,
                                              const PackedWeights::Source& source) {
  const std::string key =
      fmt::format("packed {} {} {} {}", fmt::ptr(source.weight.data), fmt::ptr(source.bias.data),
                  fmt::ptr(source.gamma.data), source.channels_last);
  return context.shared->get<PackedWeights>(
      key, [&] { return std::make_shared<PackedWeights>(source, context); });
}

void give_packed_gradient(comm::StreamView stream, const float* packed, bool channels_last,
                          const float* scale, const Tensor& gradient, GradientMode mode) {
  if (mode == GradientMode::kNone) return;
  comm::parallel_for(stream, gradient.shape.count(),
                     GiveGradient{Order(gradient.shape), channels_last, packed, scale,
                                  gradient.f32(), mode == GradientMode::kAccumulate});
}

bool packs_in_place(const Shape& weight, bool channels_last) {
  return !channels_last || weight[1] == 1 || weight[2] * weight[3] == 1;
}

}  // namespace models
