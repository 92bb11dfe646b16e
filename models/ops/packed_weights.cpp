#include "models/ops/packed_weights.h"

#include <fmt/format.h>

#include "comm/parallel.h"
#include "models/graph/element.h"

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

template <typename T>
struct Pack {
  Order order;
  bool channels_last;
  const float *weight, *scale;  // scale may be null
  T* packed;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const float w = weight[channels_last ? order.first_from_last(i) : i];
    packed[i] = scale ? scale[order.output(i)] * w : w;
  }
};

struct Narrow {
  const float* from;
  comm::Bf16* to;
  RIDGELINE_HD void operator()(std::int64_t o) const { to[o] = from[o]; }
};

template <typename T>
struct GiveGradient {
  Order order;
  bool channels_last;
  const T* packed;
  const float* scale;  // may be null
  float* gradient;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const float d = packed[channels_last ? order.last_from_first(i) : i];
    const float scaled = scale ? scale[order.output(i)] * d : d;
    gradient[i] = accumulate ? gradient[i] + scaled : scaled;
  }
};

comm::Buffer make_buffer(const KernelContext& context, std::int64_t count, Type type) {
  return comm::Buffer(context.device, static_cast<std::size_t>(count * type_bytes(type)),
                      comm::Fill::kZero);
}

}  // namespace

PackedWeights::PackedWeights(const WeightSource& source, const PackedOrder& order,
                             const KernelContext& context)
    : source_(source), order_(order), stream_(context.stream) {
  const std::int64_t outputs = source.weight.shape[0];
  if (source.gamma) scale_ = make_buffer(context, outputs, Type::kF32);
  if (source.gamma || !source.bias) shift_ = make_buffer(context, outputs, Type::kF32);
  if (order.type == Type::kBF16) narrow_shift_ = make_buffer(context, outputs, order.type);
  if (source.gamma || !packs_in_place(source.weight.shape, order)) {
    weight_ = make_buffer(context, source.weight.shape.count(), order.type);
  }
}

void PackedWeights::refresh(std::int64_t version) {
  if (version_ == version) return;
  version_ = version;
  const Shape& shape = source_.weight.shape;
  float* scale = nullptr;
  if (source_.gamma) {
    scale = scale_.as<float>().data();
    comm::parallel_for(stream_, shape[0], Folding(source_, scale, shift_.as<float>().data()));
  }
  if (narrow_shift_.size_bytes() != 0) {
    const float* shift =
        source_.gamma || !source_.bias ? shift_.as<float>().data() : source_.bias.f32();
    comm::parallel_for(stream_, shape[0], Narrow{shift, narrow_shift_.as<comm::Bf16>().data()});
  }
  if (weight_.size_bytes() == 0) return;
  with_element(order_.type, [&](auto zero) {
    using T = decltype(zero);
    comm::parallel_for(stream_, shape.count(),
                       Pack<T>{Order(shape), order_.channels_last, source_.weight.f32(), scale,
                               weight_.as<T>().data()});
  });
}

void* PackedWeights::weight(std::int64_t version) {
  if (weight_.size_bytes() == 0) return source_.weight.data;
  refresh(version);
  return weight_.bytes().data();
}

const float* PackedWeights::shift(std::int64_t version) {
  if (shift_.size_bytes() == 0) return source_.bias.f32();
  refresh(version);
  return shift_.as<float>().data();
}

const void* PackedWeights::engine_shift(std::int64_t version) {
  if (narrow_shift_.size_bytes() == 0) return shift(version);
  refresh(version);
  return narrow_shift_.bytes().data();
}

const float* PackedWeights::scale(std::int64_t version) {
  if (scale_.size_bytes() == 0) return nullptr;
  refresh(version);
  return scale_.as<float>().data();
}

std::shared_ptr<PackedWeights> packed_weights(const KernelContext& context,
                                              const WeightSource& source,
                                              const PackedOrder& order) {
  const std::string key =
      fmt::format("packed {} {} {} {} {}", fmt::ptr(source.weight.data), fmt::ptr(source.bias.data),
                  fmt::ptr(source.gamma.data), order.channels_last, to_string(order.type));
  return context.shared->get<PackedWeights>(
      key, [&] { return std::make_shared<PackedWeights>(source, order, context); });
}

void give_packed_gradient(comm::StreamView stream, const std::byte* packed,
                          const PackedOrder& order, const float* scale, const Tensor& gradient,
                          GradientMode mode) {
  if (mode == GradientMode::kNone) return;
  with_element(order.type, [&](auto zero) {
    using T = decltype(zero);
    comm::parallel_for(stream, gradient.shape.count(),
                       GiveGradient<T>{Order(gradient.shape), order.channels_last,
                                       reinterpret_cast<const T*>(packed), scale, gradient.f32(),
                                       mode == GradientMode::kAccumulate});
  });
}

bool packs_in_place(const Shape& weight, const PackedOrder& order) {
  if (order.type != Type::kF32) return false;
  return !order.channels_last || weight[1] == 1 || weight[2] * weight[3] == 1;
}

}  // namespace models
