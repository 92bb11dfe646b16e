// The synchronised norm on a GPU, in any physical order: sums over channels as batch_norm_gpu's,
// where the host's kernels cut pieces for its vectors.
#include "models/ops/channel_norm.h"
#include "models/ops/sync_norm.h"
#include "models/ops/sync_norm_channels.h"

namespace models {
namespace {

// count, mean and biased variance
template <typename T>
struct KeepMoments {
  SumAndSquares<T> of;
  float* to;  // (3, C)
  RIDGELINE_HD void operator()(std::int64_t c, const double* sums) const {
    const ChannelMoments moments(of, c, sums);
    const std::int64_t channels = of.rows.channels;
    to[c] = static_cast<float>(of.rows.rows());
    to[channels + c] = static_cast<float>(moments.mean);
    to[2 * channels + c] = static_cast<float>(moments.variance);
  }
};

// dx (+)= dmean / count + dvariance 2 (x - mean) / count
template <typename T>
struct MomentsBackward {
  std::int64_t channels;
  const T* x;
  const float *moments, *dmoments;
  T* dx;
  bool accumulate;

  template <int N>
  struct Channels {
    comm::Pack<float, N> mean, shift, scale;
  };
  template <int N>
  struct Loaded {
    comm::Pack<T, N> x, dx;
  };
  template <int N>
  RIDGELINE_HD Channels<N> of(std::int64_t c, comm::Lanes<N>) const {
    Channels<N> of;
    comm::each(comm::Lanes<N>{}, [&](int k) {
      of.mean[k] = moments[channels + c + k];
      of.shift[k] = dmoments[channels + c + k] / moments[c + k];
      of.scale[k] = 2.0f * dmoments[2 * channels + c + k] / moments[c + k];
    });
    return of;
  }
  template <int N>
  RIDGELINE_HD Loaded<N> load(std::int64_t e, comm::Lanes<N> lanes) const {
    Loaded<N> in;
    in.x = comm::load(x + e, lanes);
    if (accumulate) in.dx = comm::load(dx + e, lanes);
    return in;
  }
  template <int N>
  RIDGELINE_HD void take(std::int64_t e, const Channels<N>& of, const Loaded<N>& in,
                         comm::Pack<float, N>*) const {
    comm::Pack<float, N> to;
    comm::each(comm::Lanes<N>{}, [&](int k) {
      const float d = of.shift[k] + of.scale[k] * (in.x[k] - of.mean[k]);
      to[k] = accumulate ? in.dx[k] + d : d;
    });
    comm::store(dx + e, to);
  }
};

template <typename T>
class MomentsGpu final : public Kernel {
 public:
  explicit MomentsGpu(const KernelContext& context)
      : stream_(context.stream), rows_(context.inputs[0]) {}
  std::int64_t workspace_bytes() const override { return channel_sums_bytes(rows_, 2); }
  void forward(const KernelArgs& args) override {
    const T* x = args.inputs[0].as<T>();
    const SumAndSquares<T> body{rows_, x};
    channel_sums<2, T>(stream_, rows_, body, {x}, KeepMoments<T>{body, args.outputs[0].f32()},
                       args.workspace.data());
  }
  void backward(const KernelArgs& args) override {
    const T* x = args.inputs[0].as<T>();
    T* dx = args.dinputs[0].as<T>();
    channel_sweep<T>(
        stream_, rows_,
        MomentsBackward<T>{rows_.channels, x, args.outputs[0].f32(), args.doutputs[0].f32(), dx,
                           args.modes[0] == GradientMode::kAccumulate},
        {x, dx});
  }

 private:
  comm::StreamView stream_;
  ChannelRows rows_;
};

// The running statistics' part, and gamma / sigma.
struct StatisticsAndScale {
  SyncStatistics statistics;
  float* scale;
  RIDGELINE_HD void operator()(std::int64_t c) const {
    const SyncChannels& of = statistics.of;
    statistics(c);
    scale[c] =
        static_cast<float>(of.gamma[c] / std::sqrt(double{of.moments[2 * of.count + c]} + of.eps));
  }
};

struct GradientsOfSums {
  SyncGradients gradients;
  float* scale;  // gamma / sigma
  RIDGELINE_HD void operator()(std::int64_t c, const double* sums) const {
    const SyncChannels& of = gradients.of;
    gradients.give(c, sums[0], sums[1]);
    scale[c] = static_cast<float>(of.rstd(c) * of.gamma[c]);
  }
};

// dx (+)= dy gamma / sigma
template <typename T>
struct ScaledGradient {
  const float* scale;  // (C)
  const T* dy;
  T* dx;
  bool accumulate;

  template <int N>
  struct Loaded {
    comm::Pack<T, N> dy, dx;
  };
  template <int N>
  RIDGELINE_HD comm::Pack<float, N> of(std::int64_t c, comm::Lanes<N> lanes) const {
    return comm::load(scale + c, lanes);
  }
  template <int N>
  RIDGELINE_HD Loaded<N> load(std::int64_t e, comm::Lanes<N> lanes) const {
    Loaded<N> in;
    in.dy = comm::load(dy + e, lanes);
    if (accumulate) in.dx = comm::load(dx + e, lanes);
    return in;
  }
  template <int N>
  RIDGELINE_HD void take(std::int64_t e, const comm::Pack<float, N>& of, const Loaded<N>& in,
                         comm::Pack<float, N>*) const {
    comm::Pack<float, N> to;
    comm::each(comm::Lanes<N>{}, [&](int k) {
      const float d = in.dy[k] * of[k];
      to[k] = accumulate ? in.dx[k] + d : d;
    });
    comm::store(dx + e, to);
  }
};

template <typename T>
class SyncNormGpu final : public Kernel {
 public:
  SyncNormGpu(const KernelContext& context, float eps)
      : stream_(context.stream), rows_(context.inputs[0]), eps_(eps) {}
  std::int64_t workspace_bytes() const override {
    return channel_sums_bytes(rows_, 2) + rows_.channels * 4;
  }
  void forward(const KernelArgs& args) override {
    const SyncChannels of = channels(args);
    const T* x = args.inputs[0].as<T>();
    const float *mean = of.moments + of.count, *beta = args.inputs[3].f32();
    float* const scale = channel_memory(args);
    T* y = args.outputs[0].as<T>();
    comm::parallel_for(
        stream_, rows_.channels,
        StatisticsAndScale{{of, args.outputs[1].f32(), args.outputs[2].f32()}, scale});
    channel_sweep<T>(stream_, rows_, Normalise<T>{x, mean, scale, beta, y},
                     {x, mean, scale, beta, y});
  }
  void backward(const KernelArgs& args) override {
    const SyncChannels of = channels(args);
    const T *x = args.inputs[0].as<T>(), *dy = args.doutputs[0].as<T>();
    const float* mean = of.moments + of.count;
    float* const scale = channel_memory(args);
    const auto target = [&](int i) { return Target{args.dinputs[i].f32(), args.modes[i]}; };
    channel_sums<2, T>(stream_, rows_, SumAndProjection<T>{x, dy, mean}, {x, dy, mean},
                       GradientsOfSums{{of, target(1), target(2), target(3)}, scale},
                       args.workspace.data());
    if (args.modes[0] == GradientMode::kNone) return;
    T* dx = args.dinputs[0].as<T>();
    channel_sweep<T>(stream_, rows_,
                     ScaledGradient<T>{scale, dy, dx, args.modes[0] == GradientMode::kAccumulate},
                     {scale, dy, dx});
  }

 private:
  SyncChannels channels(const KernelArgs& args) const {
    return {args.inputs[1].f32(), args.inputs[2].f32(), rows_.channels, eps_};
  }
  float* channel_memory(const KernelArgs& args) const {
    return reinterpret_cast<float*>(args.workspace.data() + channel_sums_bytes(rows_, 2));
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
