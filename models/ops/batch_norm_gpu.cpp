// Batch normalisation as bodies for any device, in any physical order: sums over channels by a
// fixed tree, so that the bits depend neither on the GPU nor on the order of its work.
#include "models/ops/batch_norm.h"
#include "models/ops/channel_norm.h"
#include "models/ops/elementwise.h"

namespace models {
namespace {

// mean, biased and unbiased variance, and gamma / sigma. One value has no unbiased variance;
// PyTorch refuses it, here it counts as its biased one (0).
template <typename T>
struct Statistics {
  SumAndSquares<T> of;
  const float* gamma;
  float *mean, *variance, *unbiased, *scale;
  float eps;
  RIDGELINE_HD void operator()(std::int64_t c, const double* sums) const {
    const ChannelMoments moments(of, c, sums);
    const auto count = static_cast<double>(of.rows.rows());
    mean[c] = static_cast<float>(moments.mean);
    variance[c] = static_cast<float>(moments.variance);
    unbiased[c] = static_cast<float>(moments.variance * (count > 1 ? count / (count - 1) : 1.0));
    scale[c] = static_cast<float>(gamma[c] / std::sqrt(double{variance[c]} + eps));
  }
};

// What dx is made of: scale = gamma / sigma, shift = mean(dz), slope = mean(dz x^) / sigma.  (C)
struct Slopes {
  float *scale, *shift, *slope;
  Slopes(float* memory, std::int64_t stride)
      : scale(memory), shift(memory + stride), slope(memory + 2 * stride) {}
};

// dgamma = sum dz (x - mean) / sigma, dbeta = sum dz
struct ChannelGradients {
  double count;
  const float *gamma, *variance;
  Target dgamma, dbeta;
  Slopes to;
  float eps;
  RIDGELINE_HD void operator()(std::int64_t c, const double* sums) const {
    const double inverse = 1.0 / (double{variance[c]} + eps);
    dgamma.give(c, sums[1] / std::sqrt(double{variance[c]} + eps));
    dbeta.give(c, sums[0]);
    to.scale[c] = static_cast<float>(gamma[c] * std::sqrt(inverse));
    to.shift[c] = static_cast<float>(sums[0] / count);
    to.slope[c] = static_cast<float>(sums[1] * inverse / count);
  }
};

// dx (+)= gamma / sigma (dz - mean(dz) - x^ mean(dz x^)), x^ = (x - mean) / sigma; and the
// residual's gradient (+)= dz. Null: not wanted, and without y dz = dy.
template <typename T>
struct InputGradients {
  const T *x, *dy, *y;
  const float* center;  // (C)
  Slopes slopes;
  T *dx, *residual;
  bool adds, adds_residual;

  template <int N>
  struct Channels {
    comm::Pack<float, N> center, scale, shift, slope;
  };
  template <int N>
  struct Loaded {
    comm::Pack<T, N> x, dy, y, dx, residual;
  };
  template <int N>
  RIDGELINE_HD Channels<N> of(std::int64_t c, comm::Lanes<N> lanes) const {
    return {comm::load(center + c, lanes), comm::load(slopes.scale + c, lanes),
            comm::load(slopes.shift + c, lanes), comm::load(slopes.slope + c, lanes)};
  }
  template <int N>
  RIDGELINE_HD Loaded<N> load(std::int64_t e, comm::Lanes<N> lanes) const {
    Loaded<N> in;
    in.dy = comm::load(dy + e, lanes);
    if (y) in.y = comm::load(y + e, lanes);
    if (dx) in.x = comm::load(x + e, lanes);
    if (adds) in.dx = comm::load(dx + e, lanes);
    if (adds_residual) in.residual = comm::load(residual + e, lanes);
    return in;
  }
  template <int N>
  RIDGELINE_HD void take(std::int64_t e, const Channels<N>& of, const Loaded<N>& in,
                         comm::Pack<float, N>*) const {
    comm::Pack<float, N> to_x, to_residual;
    comm::each(comm::Lanes<N>{}, [&](int k) {
      const float dz = y && !(in.y[k] > 0.0f) ? 0.0f : float{in.dy[k]};
      const float d = of.scale[k] * (dz - of.shift[k] - (in.x[k] - of.center[k]) * of.slope[k]);
      to_x[k] = adds ? in.dx[k] + d : d;
      to_residual[k] = adds_residual ? in.residual[k] + dz : dz;
    });
    if (dx) comm::store(dx + e, to_x);
    if (residual) comm::store(residual + e, to_residual);
  }
};

template <typename T>
class BatchNormGpu final : public Kernel {
 public:
  BatchNormGpu(const BatchNormOp& op, const KernelContext& context)
      : stream_(context.stream), rows_(context.inputs[0]), eps_(op.eps()), fused_(op.fused()) {
    if (!fused_.residual) return;
    const Tensor &residual = context.inputs[BatchNormOp::kResidual], &y = context.outputs[0];
    REQUIRE(residual.channel_block == y.channel_block && residual.type == y.type,
            "residual in blocks of {}, not {}", residual.channel_block, y.channel_block);
  }
  std::int64_t workspace_bytes() const override {
    return channel_sums_bytes(rows_, 2) + 3 * channel_stride() * 4;
  }
  std::string implementation() const override { return "own"; }

  void forward(const KernelArgs& args) override {
    const T* x = args.inputs[0].as<T>();
    const float *gamma = args.inputs[1].f32(), *beta = args.inputs[2].f32();
    float *mean = args.outputs[1].f32(), *scale = channel_memory(args);
    const T* residual = fused_.residual ? args.inputs[BatchNormOp::kResidual].as<T>() : nullptr;
    T* y = args.outputs[0].as<T>();
    const SumAndSquares<T> body{rows_, x};
    channel_sums<2, T>(
        stream_, rows_, body, {x},
        Statistics<T>{body, gamma, mean, args.outputs[2].f32(), args.outputs[3].f32(), scale, eps_},
        args.workspace.data());
    channel_sweep<T>(stream_, rows_, Normalise<T>{x, mean, scale, beta, y, residual, fused_.relu},
                     {x, mean, scale, beta, y, residual});
  }

  void backward(const KernelArgs& args) override {
    const T *x = args.inputs[0].as<T>(), *dy = args.doutputs[0].as<T>();
    const T* y = fused_.relu ? args.outputs[0].as<T>() : nullptr;
    const float *mean = args.outputs[1].f32(), *variance = args.outputs[2].f32();
    const Slopes slopes(channel_memory(args), channel_stride());
    const auto target = [&](int i) { return Target{args.dinputs[i].f32(), args.modes[i]}; };
    channel_sums<2, T>(stream_, rows_, SumAndProjection<T>{x, dy, mean, y}, {x, dy, mean, y},
                       ChannelGradients{static_cast<double>(rows_.rows()), args.inputs[1].f32(),
                                        variance, target(1), target(2), slopes, eps_},
                       args.workspace.data());
    T* const dx = gradient(args, 0);
    T* const residual = fused_.residual ? gradient(args, BatchNormOp::kResidual) : nullptr;
    const bool adds = args.modes[0] == GradientMode::kAccumulate;
    const bool adds_residual =
        residual && args.modes[BatchNormOp::kResidual] == GradientMode::kAccumulate;
    const auto give = [&](T* to_x, T* to_residual) {
      if (!to_x && !to_residual) return;
      channel_sweep<T>(
          stream_, rows_,
          InputGradients<T>{x, dy, y, mean, slopes, to_x, to_residual, to_x && adds,
                            to_residual && adds_residual},
          {x, dy, y, mean, slopes.scale, slopes.shift, slopes.slope, to_x, to_residual});
    };
    if (dx == residual) {  // one after the other, in the order of the inputs
      give(dx, nullptr);
      give(nullptr, residual);
    } else {
      give(dx, residual);
    }
  }

 private:
  static T* gradient(const KernelArgs& args, int i) {
    return args.modes[i] == GradientMode::kNone ? nullptr : args.dinputs[i].as<T>();
  }
  std::int64_t channel_stride() const { return comm::num_blocks(rows_.channels, 16) * 16; }
  float* channel_memory(const KernelArgs& args) const {
    return reinterpret_cast<float*>(args.workspace.data() + channel_sums_bytes(rows_, 2));
  }

  comm::StreamView stream_;
  ChannelRows rows_;
  float eps_;
  BatchNormOp::Fused fused_;
};

}  // namespace

std::unique_ptr<Kernel> compile_batch_norm_gpu(const BatchNormOp& op,
                                               const KernelContext& context) {
  return make_kernel<BatchNormGpu>(context.outputs[0].type, op, context);
}

}  // namespace models
