#include "models/ops/group_norm.h"

#include <fmt/format.h>

#include <cmath>

#include "models/ops/elementwise.h"

namespace models {
namespace {

// Walks one channel of one image in a blocked tensor.
struct Geometry {
  std::int64_t channels, cells, groups;
  int block;
  RIDGELINE_HD std::int64_t start(std::int64_t n, std::int64_t c) const {
    const std::int64_t blocks = (channels + block - 1) / block;
    return (n * blocks + c / block) * cells * block + c % block;
  }
  RIDGELINE_HD std::int64_t per_group() const { return channels / groups; }
  // The image's last group zeros the channels that only fill the last block.
  template <typename T>
  RIDGELINE_HD void clear_padding(T* data, std::int64_t i) const {
    if (i % groups != groups - 1) return;
    for (std::int64_t c = channels; c % block != 0; ++c) {
      const std::int64_t s = start(i / groups, c);
      for (std::int64_t k = 0; k < cells; ++k) data[s + k * block] = 0.0f;
    }
  }
};

// mean and 1 / sqrt(variance + eps) of group i = (n, g), then y of its channels
template <typename T>
struct Forward {
  Geometry at;
  const T* x;
  const float *gamma, *beta;
  T* y;
  float *mean, *rstd;  // (N, G)
  float eps;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t n = i / at.groups, first = i % at.groups * at.per_group();
    const double count = static_cast<double>(at.per_group() * at.cells);
    double sum = 0, squares = 0;
    for (std::int64_t c = first; c < first + at.per_group(); ++c) {
      const T* from = x + at.start(n, c);
      for (std::int64_t k = 0; k < at.cells; ++k) sum += from[k * at.block];
    }
    const double m = sum / count;
    for (std::int64_t c = first; c < first + at.per_group(); ++c) {
      const T* from = x + at.start(n, c);
      for (std::int64_t k = 0; k < at.cells; ++k) {
        const double d = from[k * at.block] - m;
        squares += d * d;
      }
    }
    const double r = 1.0 / std::sqrt(squares / count + eps);
    mean[i] = static_cast<float>(m);
    rstd[i] = static_cast<float>(r);
    for (std::int64_t c = first; c < first + at.per_group(); ++c) {
      const std::int64_t s = at.start(n, c);
      for (std::int64_t k = 0; k < at.cells; ++k) {
        y[s + k * at.block] = (x[s + k * at.block] - mean[i]) * rstd[i] * gamma[c] + beta[c];
      }
    }
    at.clear_padding(y, i);
  }
};

// dx (+)= rstd (gamma dy - mean(gamma dy) - x^ mean(gamma dy x^)), means over the group
template <typename T>
struct BackwardData {
  Geometry at;
  const T *x, *dy;
  const float *gamma, *mean, *rstd;
  T* dx;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t n = i / at.groups, first = i % at.groups * at.per_group();
    const double count = static_cast<double>(at.per_group() * at.cells);
    double sum = 0, projected = 0;
    for (std::int64_t c = first; c < first + at.per_group(); ++c) {
      const std::int64_t s = at.start(n, c);
      for (std::int64_t k = 0; k < at.cells; ++k) {
        const double g = double{gamma[c]} * dy[s + k * at.block];
        sum += g;
        projected += g * (x[s + k * at.block] - mean[i]) * rstd[i];
      }
    }
    const auto mean_g = static_cast<float>(sum / count);
    const auto mean_gx = static_cast<float>(projected / count);
    for (std::int64_t c = first; c < first + at.per_group(); ++c) {
      const std::int64_t s = at.start(n, c);
      for (std::int64_t k = 0; k < at.cells; ++k) {
        const std::int64_t e = s + k * at.block;
        const float normalised = (x[e] - mean[i]) * rstd[i];
        const float d = rstd[i] * (gamma[c] * dy[e] - mean_g - normalised * mean_gx);
        dx[e] = accumulate ? dx[e] + d : d;
      }
    }
    at.clear_padding(dx, i);
  }
};

// dgamma(c) (+)= sum dy x^, dbeta(c) (+)= sum dy
template <typename T>
struct BackwardParameters {
  Geometry at;
  std::int64_t images;
  const T *x, *dy;
  const float *mean, *rstd;
  Target dgamma, dbeta;
  RIDGELINE_HD void operator()(std::int64_t c) const {
    double scale = 0, shift = 0;
    for (std::int64_t n = 0; n < images; ++n) {
      const std::int64_t s = at.start(n, c), i = n * at.groups + c / at.per_group();
      for (std::int64_t k = 0; k < at.cells; ++k) {
        const std::int64_t e = s + k * at.block;
        scale += double{float{dy[e]}} * (x[e] - mean[i]) * rstd[i];
        shift += dy[e];
      }
    }
    dgamma.give(c, scale);
    dbeta.give(c, shift);
  }
};

template <typename T>
class GroupNormKernel final : public Kernel {
 public:
  GroupNormKernel(comm::StreamView stream, int groups, float eps)
      : stream_(stream), groups_(groups), eps_(eps) {}
  void forward(const KernelArgs& args) override {
    const Tensor& x = args.inputs[0];
    comm::parallel_for(
        stream_, x.shape[0] * groups_,
        Forward<T>{geometry(x), x.as<T>(), args.inputs[1].f32(), args.inputs[2].f32(),
                   args.outputs[0].as<T>(), args.outputs[1].f32(), args.outputs[2].f32(), eps_},
        1);
  }
  void backward(const KernelArgs& args) override {
    const Tensor& x = args.inputs[0];
    const float *mean = args.outputs[1].f32(), *rstd = args.outputs[2].f32();
    const T* dy = args.doutputs[0].as<T>();
    if (args.modes[0] != GradientMode::kNone) {
      comm::parallel_for(
          stream_, x.shape[0] * groups_,
          BackwardData<T>{geometry(x), x.as<T>(), dy, args.inputs[1].f32(), mean, rstd,
                          args.dinputs[0].as<T>(), args.modes[0] == GradientMode::kAccumulate},
          1);
    }
    const auto target = [&](int i) { return Target{args.dinputs[i].f32(), args.modes[i]}; };
    comm::parallel_for(stream_, x.shape[1],
                       BackwardParameters<T>{geometry(x), x.shape[0], x.as<T>(), dy, mean, rstd,
                                             target(1), target(2)},
                       4);
  }

 private:
  Geometry geometry(const Tensor& x) const {
    return {x.shape[1], x.shape[2] * x.shape[3], groups_, x.channel_block};
  }
  comm::StreamView stream_;
  int groups_;
  float eps_;
};

// Outputs: y, mean, 1 / standard deviation.
class GroupNormOp final : public Op {
 public:
  GroupNormOp(int groups, float eps) : groups_(groups), eps_(eps) {}
  std::string name() const override { return "group_norm"; }
  std::string attributes() const override {
    return fmt::format("groups {} eps {:g}", groups_, eps_);
  }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    const Shape& x = inputs[0].shape;
    REQUIRE(x.rank == 4 && x[1] % groups_ == 0, "group_norm of {} in {} groups", to_string(x),
            groups_);
    const ValueSpec per_group{Type::kF32, {x[0], groups_}};
    return {inputs[0], per_group, per_group};
  }
  Saved saved() const override { return {{0, 1}, {1, 2}}; }
  PrecisionRule precision() const override { return PrecisionRule::kFollow; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    if (context.device.kind != comm::DeviceKind::kCpu) {
      return compile_group_norm_gpu(context, groups_, eps_);
    }
    return make_kernel<GroupNormKernel>(context.outputs[0].type, context.stream, groups_, eps_);
  }

 private:
  int groups_;
  float eps_;
};

}  // namespace

Value group_norm(Graph& graph, Value x, Value gamma, Value beta, int groups, float eps) {
  return graph.add(std::make_shared<GroupNormOp>(groups, eps), {x, gamma, beta})[0];
}

}  // namespace models
