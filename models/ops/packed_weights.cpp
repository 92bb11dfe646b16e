#include "models/ops/packed_weights.h"

#include <fmt/format.h>

#include "comm/parallel.h"
#include "models/graph/element.h"
#include "models/ops/elementwise.h"

namespace models {
namespace {

// Neighbours of the gradient, (O, I, R S), of (O, R S, I): the divisions of the first serve all.
template <typename T>
struct GiveGradient {
  std::uint32_t inputs, taps;
  const T* packed;
  const float* scale;  // may be null
  float* gradient;
  bool accumulate;

  template <int N>
  RIDGELINE_HD void operator()(std::int64_t begin, comm::Lanes<N> lanes) const {
    const auto e = static_cast<std::uint32_t>(begin);
    const std::uint32_t row = e / taps;  // o I + i
    std::uint32_t tap = e - row * taps, o = row / inputs, input = row - o * inputs;
    comm::Pack<float, N> d;
    if (taps == 1) {
      const auto from = comm::load(packed + e, lanes);
      for (int k = 0; k < N; ++k) d[k] = from[k];
    }
    for (int k = 0; k < N; ++k) {
      if (taps != 1) d[k] = packed[(o * taps + tap) * inputs + input];
      d[k] = scale ? scale[o] * d[k] : d[k];
      const bool next_input = ++tap == taps;
      tap = next_input ? 0 : tap;
      input += next_input;
      o += input == inputs;
      input = input == inputs ? 0 : input;
    }
    if (accumulate) {
      const auto before = comm::load(gradient + e, lanes);
      for (int k = 0; k < N; ++k) d[k] = before[k] + d[k];
    }
    comm::store(gradient + e, d);
  }
};

comm::Buffer make_buffer(const KernelContext& context, std::int64_t count, Type type) {
  return comm::Buffer(context.device, static_cast<std::size_t>(count * type_bytes(type)),
                      comm::Fill::kZero);
}

// Those whose parameters `source` reads.
std::set<int> buckets_of(const KernelContext& context, const WeightSource& source) {
  std::set<int> buckets;
  for (const Tensor* t : {&source.weight, &source.bias, &source.gamma, &source.beta, &source.mean,
                          &source.variance}) {
    for (std::size_t i = 0; i < context.buckets.size(); ++i) {
      const bool reads = *t && context.inputs[i].data == t->data;
      if (reads && context.buckets[i] >= 0) buckets.insert(context.buckets[i]);
    }
  }
  return buckets;
}

}  // namespace

PackedWeights::PackedWeights(const WeightSource& source, const PackedOrder& order,
                             const KernelContext& context)
    : source_(source) {
  const std::int64_t outputs = source.weight.shape[0];
  if (source.gamma) scale_ = make_buffer(context, outputs, Type::kF32);
  if (source.gamma || !source.bias) shift_ = make_buffer(context, outputs, Type::kF32);
  if (order.type == Type::kBF16) narrow_shift_ = make_buffer(context, outputs, order.type);
  if (source.gamma || !packs_in_place(source.weight.shape, order)) {
    weight_ = make_buffer(context, source.weight.shape.count(), order.type);
  }
  packing_ = context.shared->get<WeightPacking>(
      "weight packing", [&] { return std::make_shared<WeightPacking>(context.stream); });
  PackingJob job{source, order, weight_.bytes().data()};
  if (source.gamma) {
    job.scale = scale_.as<float>().data();
    job.shift = shift_.as<float>().data();
  }
  if (source.gamma || source.bias) job.narrow_shift = narrow_shift_.as<comm::Bf16>().data();
  group_ = packing_->add(job, buckets_of(context, source));
}

void* PackedWeights::weight(std::int64_t version) {
  if (weight_.size_bytes() == 0) return source_.weight.data;
  packing_->pack(group_, version);
  return weight_.bytes().data();
}

const float* PackedWeights::shift(std::int64_t version) {
  if (shift_.size_bytes() == 0) return source_.bias.f32();
  packing_->pack(group_, version);
  return shift_.as<float>().data();
}

const void* PackedWeights::engine_shift(std::int64_t version) {
  if (narrow_shift_.size_bytes() == 0) return shift(version);
  packing_->pack(group_, version);
  return narrow_shift_.bytes().data();
}

const float* PackedWeights::scale(std::int64_t version) {
  if (scale_.size_bytes() == 0) return nullptr;
  packing_->pack(group_, version);
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
  const Shape& shape = gradient.shape;
  REQUIRE(shape.count() < std::int64_t{1} << 31, "a gradient of {}", to_string(shape));
  const auto taps = static_cast<std::uint32_t>(shape[2] * shape[3]);
  const auto inputs = static_cast<std::uint32_t>(shape[1]) * (order.channels_last ? 1 : taps);
  with_element(order.type, [&](auto zero) {
    using T = decltype(zero);
    const auto* from = reinterpret_cast<const T*>(packed);
    sweep_vectors<float>(stream, shape.count(),
                         GiveGradient<T>{inputs, order.channels_last ? taps : 1, from, scale,
                                         gradient.f32(), mode == GradientMode::kAccumulate},
                         {packed, gradient.data});
  });
}

bool packs_in_place(const Shape& weight, const PackedOrder& order) {
  if (order.type != Type::kF32) return false;
  return !order.channels_last || weight[1] == 1 || weight[2] * weight[3] == 1;
}

}  // namespace models
