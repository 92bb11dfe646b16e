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

template <typename T>
struct NormaliseGroups {
  ChannelRows rows;
  Groups groups;
  const T* x;
  const float *gamma, *beta, *mean, *rstd;
  T* y;
  RIDGELINE_HD void operator()(std::int64_t piece) const {
    const std::int64_t c = rows.channel(piece), g = c / groups.channels;
    const float center = mean[g], r = rstd[g], scale = gamma[c], shift = beta[c];
    rows.visit(piece, [&](std::int64_t e) { y[e] = (x[e] - center) * r * scale + shift; });
  }
};

// sum dy and sum dy x^, x^ = (x - mean) rstd
template <typename T>
struct Projections {
  Groups groups;
  const T *x, *dy;
  const float *mean, *rstd;
  RIDGELINE_HD void operator()(std::int64_t e, std::int64_t c, double* sums) const {
    const std::int64_t g = c / groups.channels;
    const double d = float{dy[e]};
    sums[0] += d;
    sums[1] += d * (x[e] - mean[g]) * rstd[g];
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

// The images' sums of channel c, added in their order.
struct AddImage {
  const double* sums;
  double* totals;  // (C, 2)
  bool first;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    totals[i] = (first ? 0.0 : totals[i]) + sums[i];
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
  ChannelRows rows;
  Groups groups;
  const T *x, *dy;
  const float *gamma, *mean, *rstd;
  const double* means;  // (G, 2)
  T* dx;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t piece) const {
    const std::int64_t c = rows.channel(piece), g = c / groups.channels;
    const float center = mean[g], r = rstd[g], scale = gamma[c];
    const auto mean_g = static_cast<float>(means[2 * g]);
    const auto mean_gx = static_cast<float>(means[2 * g + 1]);
    rows.visit(piece, [&](std::int64_t e) {
      const float d = r * (scale * dy[e] - mean_g - (x[e] - center) * r * mean_gx);
      dx[e] = accumulate ? dx[e] + d : d;
    });
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
    return channel_sums_bytes(rows_, 2) + 16 * (rows_.channels + groups_.count);
  }

  void forward(const KernelArgs& args) override {
    for (std::int64_t n = 0; n < images_; ++n) {
      const T* x = args.inputs[0].as<T>() + n * stride_;
      float* mean = args.outputs[1].f32() + n * groups_.count;
      float* rstd = args.outputs[2].f32() + n * groups_.count;
      const double* sums =
          channel_sums<2>(stream_, rows_, SumAndSquares<T>{x}, args.workspace.data());
      comm::parallel_for(stream_, groups_.count, GroupStatistics{groups_, sums, mean, rstd, eps_});
      comm::parallel_for(
          stream_, rows_.count(),
          NormaliseGroups<T>{rows_, groups_, x, args.inputs[1].f32(), args.inputs[2].f32(), mean,
                             rstd, args.outputs[0].as<T>() + n * stride_},
          64);
    }
  }

  void backward(const KernelArgs& args) override {
    auto* totals = reinterpret_cast<double*>(args.workspace.data() + channel_sums_bytes(rows_, 2));
    for (std::int64_t n = 0; n < images_; ++n) {
      const double* sums = image_sums(args, n);
      comm::parallel_for(stream_, 2 * rows_.channels, AddImage{sums, totals, n == 0});
      if (args.modes[0] != GradientMode::kNone) {
        give_input_gradient(args, n, sums, totals + 2 * rows_.channels);
      }
    }
    const auto target = [&](int i) { return Target{args.dinputs[i].f32(), args.modes[i]}; };
    comm::parallel_for(stream_, rows_.channels, GiveParameters{totals, target(1), target(2)});
  }

 private:
  const double* image_sums(const KernelArgs& args, std::int64_t n) const {
    const Projections<T> body{
        groups_, args.inputs[0].as<T>() + n * stride_, args.doutputs[0].as<T>() + n * stride_,
        args.outputs[1].f32() + n * groups_.count, args.outputs[2].f32() + n * groups_.count};
    return channel_sums<2>(stream_, rows_, body, args.workspace.data());
  }

  void give_input_gradient(const KernelArgs& args, std::int64_t n, const double* sums,
                           double* means) const {
    const float* gamma = args.inputs[1].f32();
    comm::parallel_for(stream_, groups_.count, GroupMeans{groups_, sums, gamma, means});
    comm::parallel_for(stream_, rows_.count(),
                       InputGradient<T>{rows_, groups_, args.inputs[0].as<T>() + n * stride_,
                                        args.doutputs[0].as<T>() + n * stride_, gamma,
                                        args.outputs[1].f32() + n * groups_.count,
                                        args.outputs[2].f32() + n * groups_.count, means,
                                        args.dinputs[0].as<T>() + n * stride_,
                                        args.modes[0] == GradientMode::kAccumulate},
                       64);
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
