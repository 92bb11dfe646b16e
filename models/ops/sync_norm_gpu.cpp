// The synchronised norm on a GPU, in any physical order: sums over channels as batch_norm_gpu's,
// where the host's kernels cut pieces for its vectors.
#include "models/ops/channel_norm.h"
#include "models/ops/sync_norm.h"
#include "models/ops/sync_norm_channels.h"

namespace models {
namespace {

// count, mean and biased variance from sum x and sum x^2
struct MomentsOfSums {
  const double* sums;  // (C, 2)
  double count;
  std::int64_t channels;
  float* moments;  // (3, C)
  RIDGELINE_HD void operator()(std::int64_t c) const {
    const double m = sums[2 * c] / count, v = sums[2 * c + 1] / count - m * m;
    moments[c] = static_cast<float>(count);
    moments[channels + c] = static_cast<float>(m);
    moments[2 * channels + c] = static_cast<float>(v > 0 ? v : 0);
  }
};

// dx (+)= dmean / count + dvariance 2 (x - mean) / count
template <typename T>
struct MomentsBackward {
  ChannelRows rows;
  const T* x;
  const float *moments, *dmoments;
  T* dx;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t piece) const {
    const std::int64_t c = rows.channel(piece), channels = rows.channels;
    const float mean = moments[channels + c], shift = dmoments[channels + c] / moments[c];
    const float scale = 2.0f * dmoments[2 * channels + c] / moments[c];
    rows.visit(piece, [&](std::int64_t e) {
      const float d = shift + scale * (x[e] - mean);
      dx[e] = accumulate ? dx[e] + d : d;
    });
  }
};

template <typename T>
class MomentsGpu final : public Kernel {
 public:
  explicit MomentsGpu(const KernelContext& context)
      : stream_(context.stream), rows_(context.inputs[0]) {}
  std::int64_t workspace_bytes() const override { return channel_sums_bytes(rows_, 2); }
  void forward(const KernelArgs& args) override {
    const double* sums = channel_sums<2>(stream_, rows_, SumAndSquares<T>{args.inputs[0].as<T>()},
                                         args.workspace.data());
    comm::parallel_for(stream_, rows_.channels,
                       MomentsOfSums{sums, static_cast<double>(rows_.rows()), rows_.channels,
                                     args.outputs[0].f32()});
  }
  void backward(const KernelArgs& args) override {
    comm::parallel_for(stream_, rows_.count(),
                       MomentsBackward<T>{rows_, args.inputs[0].as<T>(), args.outputs[0].f32(),
                                          args.doutputs[0].f32(), args.dinputs[0].as<T>(),
                                          args.modes[0] == GradientMode::kAccumulate},
                       64);
  }

 private:
  comm::StreamView stream_;
  ChannelRows rows_;
};

struct GradientsOfSums {
  SyncGradients gradients;
  const double* sums;  // (C, 2)
  RIDGELINE_HD void operator()(std::int64_t c) const {
    gradients.give(c, sums[2 * c], sums[2 * c + 1]);
  }
};

// dx (+)= dy gamma / sigma
template <typename T>
struct ScaledGradient {
  ChannelRows rows;
  SyncChannels of;
  const T* dy;
  T* dx;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t piece) const {
    const std::int64_t c = rows.channel(piece);
    const auto scale = static_cast<float>(of.rstd(c) * of.gamma[c]);
    rows.visit(piece, [&](std::int64_t e) {
      const float d = dy[e] * scale;
      dx[e] = accumulate ? dx[e] + d : d;
    });
  }
};

template <typename T>
class SyncNormGpu final : public Kernel {
 public:
  SyncNormGpu(const KernelContext& context, float eps)
      : stream_(context.stream), rows_(context.inputs[0]), eps_(eps) {}
  std::int64_t workspace_bytes() const override { return channel_sums_bytes(rows_, 2); }
  void forward(const KernelArgs& args) override {
    const SyncChannels of = channels(args);
    comm::parallel_for(stream_, rows_.count(),
                       Normalise<T>{rows_, args.inputs[0].as<T>(), of.gamma, args.inputs[3].f32(),
                                    of.moments + of.count, of.moments + 2 * of.count,
                                    args.outputs[0].as<T>(), eps_},
                       64);
    comm::parallel_for(stream_, rows_.channels,
                       SyncStatistics{of, args.outputs[1].f32(), args.outputs[2].f32()});
  }
  void backward(const KernelArgs& args) override {
    const SyncChannels of = channels(args);
    const T *x = args.inputs[0].as<T>(), *dy = args.doutputs[0].as<T>();
    const double* sums = channel_sums<2>(
        stream_, rows_, SumAndProjection<T>{x, dy, of.moments + of.count}, args.workspace.data());
    const auto target = [&](int i) { return Target{args.dinputs[i].f32(), args.modes[i]}; };
    comm::parallel_for(stream_, rows_.channels,
                       GradientsOfSums{{of, target(1), target(2), target(3)}, sums});
    if (args.modes[0] == GradientMode::kNone) return;
    comm::parallel_for(stream_, rows_.count(),
                       ScaledGradient<T>{rows_, of, dy, args.dinputs[0].as<T>(),
                                         args.modes[0] == GradientMode::kAccumulate},
                       64);
  }

 private:
  SyncChannels channels(const KernelArgs& args) const {
    return {args.inputs[1].f32(), args.inputs[2].f32(), rows_.channels, eps_};
  }
  comm::StreamView stream_;
  ChannelRows rows_;
  float eps_;
};

}  // namespace

std::unique_ptr<Kernel> compile_sync_moments_gpu(const KernelContext& context) {
  return make_kernel<MomentsGpu>(context.inputs[0].type, context);
}

std::unique_ptr<Kernel> compile_sync_norm_gpu(const KernelContext& context, float eps) {
  return make_kernel<SyncNormGpu>(context.outputs[0].type, context, eps);
}

}  // namespace models
