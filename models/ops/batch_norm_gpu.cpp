// Batch normalisation as bodies for any device, in any physical order: sums over channels in
// double by a fixed tree, so that the bits depend neither on the GPU nor on the order of its work.
#include "models/ops/batch_norm.h"
#include "models/ops/channel_norm.h"
#include "models/ops/elementwise.h"

namespace models {
namespace {

// mean, biased and unbiased variance. One value has no unbiased variance; PyTorch refuses it, here
// it counts as its biased one (0).
struct Statistics {
  const double* sums;  // (C, 2)
  double count;
  float *mean, *variance, *unbiased;
  RIDGELINE_HD void operator()(std::int64_t c) const {
    const double m = sums[2 * c] / count, v = sums[2 * c + 1] / count - m * m;
    const double biased = v > 0 ? v : 0;
    mean[c] = static_cast<float>(m);
    variance[c] = static_cast<float>(biased);
    unbiased[c] = static_cast<float>(biased * (count > 1 ? count / (count - 1) : 1.0));
  }
};

// dgamma = sum dy (x - mean) / sigma, dbeta = sum dy
struct ChannelGradients {
  const double* sums;  // (C, 2)
  const float* variance;
  Target dgamma, dbeta;
  float eps;
  RIDGELINE_HD void operator()(std::int64_t c) const {
    dgamma.give(c, sums[2 * c + 1] / std::sqrt(double{variance[c]} + eps));
    dbeta.give(c, sums[2 * c]);
  }
};

// dx (+)= gamma / sigma (dy - mean(dy) - x^ mean(dy x^)), x^ = (x - mean) / sigma
template <typename T>
struct InputGradient {
  ChannelRows rows;
  const double* sums;  // (C, 2)
  const T *x, *dy;
  const float *gamma, *mean, *variance;
  T* dx;
  float eps;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t piece) const {
    const std::int64_t c = rows.channel(piece);
    const double count = static_cast<double>(rows.rows());
    const double inverse = 1.0 / (double{variance[c]} + eps);
    const auto scale = static_cast<float>(gamma[c] * std::sqrt(inverse));
    const auto shift = static_cast<float>(sums[2 * c] / count);
    const auto slope = static_cast<float>(sums[2 * c + 1] * inverse / count);
    const float center = mean[c];
    rows.visit(piece, [&](std::int64_t e) {
      const float d = scale * (dy[e] - shift - (x[e] - center) * slope);
      dx[e] = accumulate ? dx[e] + d : d;
    });
  }
};

template <typename T>
class BatchNormGpu final : public Kernel {
 public:
  BatchNormGpu(const BatchNormOp& op, const KernelContext& context)
      : stream_(context.stream), rows_(context.inputs[0]), eps_(op.eps()) {}
  std::int64_t workspace_bytes() const override { return channel_sums_bytes(rows_, 2); }
  std::string implementation() const override { return "own"; }

  void forward(const KernelArgs& args) override {
    const T* x = args.inputs[0].as<T>();
    float *mean = args.outputs[1].f32(), *variance = args.outputs[2].f32();
    const double* sums =
        channel_sums<2>(stream_, rows_, SumAndSquares<T>{x}, args.workspace.data());
    comm::parallel_for(
        stream_, rows_.channels,
        Statistics{sums, static_cast<double>(rows_.rows()), mean, variance, args.outputs[3].f32()});
    comm::parallel_for(stream_, rows_.count(),
                       Normalise<T>{rows_, x, args.inputs[1].f32(), args.inputs[2].f32(), mean,
                                    variance, args.outputs[0].as<T>(), eps_},
                       64);
  }

  void backward(const KernelArgs& args) override {
    const T *x = args.inputs[0].as<T>(), *dy = args.doutputs[0].as<T>();
    const float *mean = args.outputs[1].f32(), *variance = args.outputs[2].f32();
    const double* sums =
        channel_sums<2>(stream_, rows_, SumAndProjection<T>{x, dy, mean}, args.workspace.data());
    const auto target = [&](int i) { return Target{args.dinputs[i].f32(), args.modes[i]}; };
    comm::parallel_for(stream_, rows_.channels,
                       ChannelGradients{sums, variance, target(1), target(2), eps_});
    if (args.modes[0] == GradientMode::kNone) return;
    comm::parallel_for(
        stream_, rows_.count(),
        InputGradient<T>{rows_, sums, x, dy, args.inputs[1].f32(), mean, variance,
                         args.dinputs[0].as<T>(), eps_, args.modes[0] == GradientMode::kAccumulate},
        64);
  }

 private:
  comm::StreamView stream_;
  ChannelRows rows_;
  float eps_;
};

}  // namespace

std::unique_ptr<Kernel> compile_batch_norm_gpu(const BatchNormOp& op,
                                               const KernelContext& context) {
  return make_kernel<BatchNormGpu>(context.outputs[0].type, op, context);
}

}  // namespace models
