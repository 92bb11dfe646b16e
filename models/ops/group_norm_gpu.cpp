// Group normalisation on a GPU, in any physical order: image by image, sums over its channels as
// batch_norm_gpu's, then over the channels of a group. One thread a group, as on a CPU, would leave
// a GPU idle.
#include <cmath>

#include "models/ops/channel_norm.h"
#include "models/ops/elementwise.h"
#include "models/ops/group_norm.h"

namespace models {
namespace {

// The groups of one image.
struct Groups {
  std::int64_t count, channels;  // of groups; of one group
  double elements;               // of one group
};

// Of the image, what its channels' sums are kept as: sum x and sum x^2.
template <typename T>
struct KeepMoments {
  SumAndSquares<T> of;
  double* to;  // (C, 2)
  RIDGELINE_HD void operator()(std::int64_t c, const double* sums) const {
    const ChannelMoments moments(of, c, sums);
    const auto count = static_cast<double>(of.rows.rows());
    to[2 * c] = count * moments.mean;
    to[2 * c + 1] = count * (moments.variance + moments.mean * moments.mean);
  }
};

struct GroupStatistics {
  Groups groups;
  const double* sums;  // (C, 2)
  float *mean, *rstd;  // (G)
  float eps;
  RIDGELINE_HD void operator()(std::int64_t g) const {
    double sum = 0, squares = 0;
    for (std::int64_t c = g * groups.channels; c < (g + 1) * groups.channels; ++c) {
      sum += sums[2 * c];
      squares += sums[2 * c + 1];
    }
    const double m = sum / groups.elements, v = squares / groups.elements - m * m;
    mean[g] = static_cast<float>(m);
    rstd[g] = static_cast<float>(1.0 / std::sqrt((v > 0 ? v : 0) + eps));
  }
};

// What a thread needs of its channels' groups.
template <int N>
struct OfGroups {
  comm::Pack<float, N> mean, rstd, gamma;
  RIDGELINE_HD OfGroups(const Groups& groups, std::int64_t c, const float* means,
                        const float* rstds, const float* gammas) {
    comm::each(comm::Lanes<N>{}, [&](int k) {
      const std::int64_t g = (c + k) / groups.channels;
      mean[k] = means[g];
      rstd[k] = rstds[g];
      gamma[k] = gammas[c + k];
    });
  }
};

template <typename T>
struct NormaliseGroups {
  Groups groups;
  const T* x;
  const float *gamma, *beta, *mean, *rstd;
  T* y;

  template <int N>
  struct Channels {
    OfGroups<N> of;
    comm::Pack<float, N> beta;
  };
  template <int N>
  RIDGELINE_HD Channels<N> of(std::int64_t c, comm::Lanes<N> lanes) const {
    return {OfGroups<N>(groups, c, mean, rstd, gamma), comm::load(beta + c, lanes)};
  }
  template <int N>
  RIDGELINE_HD comm::Pack<T, N> load(std::int64_t e, comm::Lanes<N> lanes) const {
    return comm::load(x + e, lanes);
  }
  template <int N>
  RIDGELINE_HD void take(std::int64_t e, const Channels<N>& channels, const comm::Pack<T, N>& from,
                         comm::Pack<float, N>*) const {
    const OfGroups<N>& of = channels.of;
    comm::Pack<float, N> to;
    comm::each(comm::Lanes<N>{}, [&](int k) {
      to[k] = (from[k] - of.mean[k]) * of.rstd[k] * of.gamma[k] + channels.beta[k];
    });
    comm::store(y + e, to);
  }
};

// sum dy and sum dy x^, x^ = (x - mean) rstd
template <typename T>
struct Projections {
  Groups groups;
  const T *x, *dy;
  const float *gamma, *mean, *rstd;

  template <int N>
  struct Loaded {
    comm::Pack<T, N> x, dy;
  };
  template <int N>
  RIDGELINE_HD OfGroups<N> of(std::int64_t c, comm::Lanes<N>) const {
    return {groups, c, mean, rstd, gamma};
  }
  template <int N>
  RIDGELINE_HD Loaded<N> load(std::int64_t e, comm::Lanes<N> lanes) const {
    return {comm::load(x + e, lanes), comm::load(dy + e, lanes)};
  }
  template <int N>
  RIDGELINE_HD void take(std::int64_t, const OfGroups<N>& of, const Loaded<N>& in,
                         comm::Pack<float, N>* sums) const {
    comm::each(comm::Lanes<N>{}, [&](int k) {
      const float d = in.dy[k];
      sums[0][k] += d;
      sums[1][k] += d * (in.x[k] - of.mean[k]) * of.rstd[k];
    });
  }
};

// The image's sums of a channel, and the totals of all images so far, added in their order.
struct KeepSums {
  double *to, *totals;  // (C, 2)
  bool first;
  RIDGELINE_HD void operator()(std::int64_t c, const double* sums) const {
    for (int k = 0; k < 2; ++k) {
      const std::int64_t i = 2 * c + k;
      to[i] = sums[k];
      totals[i] = (first ? 0.0 : totals[i]) + sums[k];
    }
  }
};

// mean(gamma dy) and mean(gamma dy x^) over group g
struct GroupMeans {
  Groups groups;
  const double* sums;  // (C, 2)
  const float* gamma;
  double* means;  // (G, 2)
  RIDGELINE_HD void operator()(std::int64_t g) const {
    for (int k = 0; k < 2; ++k) {
      double sum = 0;
      for (std::int64_t c = g * groups.channels; c < (g + 1) * groups.channels; ++c) {
        sum += gamma[c] * sums[2 * c + k];
      }
      means[2 * g + k] = sum / groups.elements;
    }
  }
};

struct GiveParameters {
  const double* totals;  // (C, 2)
  Target dgamma, dbeta;
  RIDGELINE_HD void operator()(std::int64_t c) const {
    dgamma.give(c, totals[2 * c + 1]);
    dbeta.give(c, totals[2 * c]);
  }
};

// dx (+)= rstd (gamma dy - mean(gamma dy) - x^ mean(gamma dy x^))
template <typename T>
struct InputGradient {
  Groups groups;
  const T *x, *dy;
  const float *gamma, *mean, *rstd;
  const double* means;  // (G, 2)
  T* dx;
  bool accumulate;

  template <int N>
  struct Channels {
    OfGroups<N> of;
    comm::Pack<float, N> mean_g, mean_gx;
  };
  template <int N>
  struct Loaded {
    comm::Pack<T, N> x, dy, dx;
  };
  template <int N>
  RIDGELINE_HD Channels<N> of(std::int64_t c, comm::Lanes<N>) const {
    Channels<N> channels{{groups, c, mean, rstd, gamma}, {}, {}};
    comm::each(comm::Lanes<N>{}, [&](int k) {
      const std::int64_t g = (c + k) / groups.channels;
      channels.mean_g[k] = static_cast<float>(means[2 * g]);
      channels.mean_gx[k] = static_cast<float>(means[2 * g + 1]);
    });
    return channels;
  }
  template <int N>
  RIDGELINE_HD Loaded<N> load(std::int64_t e, comm::Lanes<N> lanes) const {
    Loaded<N> in;
    in.x = comm::load(x + e, lanes);
    in.dy = comm::load(dy + e, lanes);
    if (accumulate) in.dx = comm::load(dx + e, lanes);
    return in;
  }
  template <int N>
  RIDGELINE_HD void take(std::int64_t e, const Channels<N>& channels, const Loaded<N>& in,
                         comm::Pack<float, N>*) const {
    const OfGroups<N>& of = channels.of;
    comm::Pack<float, N> to;
    comm::each(comm::Lanes<N>{}, [&](int k) {
      const float r = of.rstd[k];
      const float d = r * (of.gamma[k] * in.dy[k] - channels.mean_g[k] -
                           (in.x[k] - of.mean[k]) * r * channels.mean_gx[k]);
      to[k] = accumulate ? in.dx[k] + d : d;
    });
    comm::store(dx + e, to);
  }
};

Tensor first_image(Tensor x) {
  x.shape[0] = 1;
  return x;
}

template <typename T>
class GroupNormGpu final : public Kernel {
 public:
  GroupNormGpu(const KernelContext& context, int groups, float eps)
      : stream_(context.stream),
        rows_(first_image(context.inputs[0])),
        images_(context.inputs[0].shape[0]),
        stride_(context.inputs[0].physical_count() / images_),
        groups_{groups, rows_.channels / groups,
                static_cast<double>(rows_.channels / groups * rows_.cells)},
        eps_(eps) {}

  std::int64_t workspace_bytes() const override {
    return channel_sums_bytes(rows_, 2) + 16 * (2 * rows_.channels + groups_.count);
  }

  void forward(const KernelArgs& args) override {
    const float *gamma = args.inputs[1].f32(), *beta = args.inputs[2].f32();
    double* const sums = memory(args);
    for (std::int64_t n = 0; n < images_; ++n) {
      const T* x = args.inputs[0].as<T>() + n * stride_;
      T* y = args.outputs[0].as<T>() + n * stride_;
      float* mean = args.outputs[1].f32() + n * groups_.count;
      float* rstd = args.outputs[2].f32() + n * groups_.count;
      const SumAndSquares<T> body{rows_, x};
      channel_sums<2, T>(stream_, rows_, body, {x}, KeepMoments<T>{body, sums},
                         args.workspace.data());
      comm::parallel_for(stream_, groups_.count, GroupStatistics{groups_, sums, mean, rstd, eps_});
      channel_sweep<T>(stream_, rows_, NormaliseGroups<T>{groups_, x, gamma, beta, mean, rstd, y},
                       {x, beta, y});
    }
  }

  void backward(const KernelArgs& args) override {
    double* const sums = memory(args);
    double* const totals = sums + 2 * rows_.channels;
    for (std::int64_t n = 0; n < images_; ++n) {
      const Image image = image_of(args, n);
      channel_sums<2, T>(
          stream_, rows_,
          Projections<T>{groups_, image.x, image.dy, args.inputs[1].f32(), image.mean, image.rstd},
          {image.x, image.dy}, KeepSums{sums, totals, n == 0}, args.workspace.data());
      if (args.modes[0] != GradientMode::kNone) {
        give_input_gradient(args, n, sums, totals + 2 * rows_.channels);
      }
    }
    const auto target = [&](int i) { return Target{args.dinputs[i].f32(), args.modes[i]}; };
    comm::parallel_for(stream_, rows_.channels, GiveParameters{totals, target(1), target(2)});
  }

 private:
  struct Image {
    const T *x, *dy;
    const float *mean, *rstd;
  };
  Image image_of(const KernelArgs& args, std::int64_t n) const {
    return {args.inputs[0].as<T>() + n * stride_, args.doutputs[0].as<T>() + n * stride_,
            args.outputs[1].f32() + n * groups_.count, args.outputs[2].f32() + n * groups_.count};
  }
  double* memory(const KernelArgs& args) const {  // sums, totals, means
    return reinterpret_cast<double*>(args.workspace.data() + channel_sums_bytes(rows_, 2));
  }

  void give_input_gradient(const KernelArgs& args, std::int64_t n, const double* sums,
                           double* means) const {
    const float* gamma = args.inputs[1].f32();
    comm::parallel_for(stream_, groups_.count, GroupMeans{groups_, sums, gamma, means});
    const Image image = image_of(args, n);
    T* const dx = args.dinputs[0].as<T>() + n * stride_;
    channel_sweep<T>(stream_, rows_,
                     InputGradient<T>{groups_, image.x, image.dy, gamma, image.mean, image.rstd,
                                      means, dx, args.modes[0] == GradientMode::kAccumulate},
                     {image.x, image.dy, dx});
  }

  comm::StreamView stream_;
  ChannelRows rows_;  // of one image
  std::int64_t images_, stride_;
  Groups groups_;
  float eps_;
};

}  // namespace

std::unique_ptr<Kernel> compile_group_norm_gpu(const KernelContext& context, int groups,
                                               float eps) {
  return make_kernel<GroupNormGpu>(context.outputs[0].type, context, groups, eps);
}

}  // namespace models
