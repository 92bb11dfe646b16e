#include "models/ops/sync_norm.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "models/ops/sync_norm_channels.h"

namespace models {
namespace {

constexpr int kLanes = 16;             // channels that one sweep of a piece takes together
constexpr std::int64_t kCells = 1024;  // a piece: 64 KiB, read twice from L2

// A tensor (outer, cells, block) cut into pieces of up to kLanes channels by kCells cells: the same
// pieces whatever the number of threads, so the same bits.
struct Pieces {
  std::int64_t images, channels, cells, block;

  explicit Pieces(const Tensor& x)
      : images(x.shape[0]),
        channels(x.shape[1]),
        cells(x.shape[2] * x.shape[3]),
        block(x.channel_block) {}
  RIDGELINE_HD std::int64_t groups_of_block() const { return (block + kLanes - 1) / kLanes; }
  RIDGELINE_HD std::int64_t groups() const {  // of channels
    return (channels + block - 1) / block * groups_of_block();
  }
  RIDGELINE_HD std::int64_t chunks() const { return (cells + kCells - 1) / kCells; }
  RIDGELINE_HD std::int64_t count() const { return images * groups() * chunks(); }

  // Piece i: `channel` is its first, `first` the element of its first cell there.
  struct Piece {
    std::int64_t channel, first, num_cells;
    int lanes;
  };
  RIDGELINE_HD Piece operator[](std::int64_t i) const {
    const std::int64_t chunk = i % chunks(), group = i / chunks() % groups();
    const std::int64_t image = i / chunks() / groups();
    const std::int64_t outer = group / groups_of_block();
    const std::int64_t lane = group % groups_of_block() * kLanes;
    const std::int64_t blocks = (channels + block - 1) / block;
    const std::int64_t rest = cells - chunk * kCells, width = block - lane;
    return {outer * block + lane,
            ((image * blocks + outer) * cells + chunk * kCells) * block + lane,
            rest < kCells ? rest : kCells, static_cast<int>(width < kLanes ? width : kLanes)};
  }
  // Where the sums of channel c in (image, chunk) lie: [piece][lane].
  RIDGELINE_HD std::int64_t sum_of(std::int64_t c, std::int64_t image, std::int64_t chunk) const {
    const std::int64_t in_block = c % block;
    const std::int64_t group = c / block * groups_of_block() + in_block / kLanes;
    return ((image * groups() + group) * chunks() + chunk) * kLanes + in_block % kLanes;
  }
};

// A pair of sums of a channel in a piece.
struct Pair {
  double first, second;
};

// body(element, lane) for every element of a piece, lanes innermost.
template <class Body>
RIDGELINE_HD void sweep_piece(const Pieces::Piece& piece, std::int64_t block, const Body& body) {
  if (piece.lanes == kLanes) {
    for (std::int64_t k = 0; k < piece.num_cells; ++k) {
      for (int l = 0; l < kLanes; ++l) body(piece.first + k * block + l, l);
    }
    return;
  }
  for (std::int64_t k = 0; k < piece.num_cells; ++k) {
    for (int l = 0; l < piece.lanes; ++l) body(piece.first + k * block + l, l);
  }
}

// Mean and sum of squared deviations of every piece.
template <typename T>
struct PieceMoments {
  Pieces at;
  const T* x;
  Pair* sums;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const Pieces::Piece piece = at[i];
    double mean[kLanes] = {}, squares[kLanes] = {};
    const T* from = x;
    sweep_piece(piece, at.block, [&](std::int64_t e, int l) { mean[l] += from[e]; });
    for (double& m : mean) m /= static_cast<double>(piece.num_cells);
    sweep_piece(piece, at.block, [&](std::int64_t e, int l) {
      const double d = from[e] - mean[l];
      squares[l] += d * d;
    });
    for (int l = 0; l < kLanes; ++l) sums[i * kLanes + l] = {mean[l], squares[l]};
  }
};

// moments(:, c) from the pieces, in their order
struct ChannelMoments {
  Pieces at;
  const Pair* sums;
  float* moments;  // (3, C): count, mean, biased variance
  RIDGELINE_HD void operator()(std::int64_t c) const {
    double count = 0, mean = 0, squares = 0;
    for (std::int64_t n = 0; n < at.images; ++n) {
      for (std::int64_t chunk = 0; chunk < at.chunks(); ++chunk) {
        const Pair& piece = sums[at.sum_of(c, n, chunk)];
        const std::int64_t rest = at.cells - chunk * kCells;
        const auto cells = static_cast<double>(rest < kCells ? rest : kCells);
        const double delta = piece.first - mean, total = count + cells;
        mean += delta * (cells / total);
        squares += piece.second + delta * delta * (count * cells / total);
        count = total;
      }
    }
    moments[c] = static_cast<float>(count);
    moments[at.channels + c] = static_cast<float>(mean);
    moments[2 * at.channels + c] = static_cast<float>(squares / count);
  }
};

// dx (+)= dmean / count + dvariance 2 (x - mean) / count
template <typename T>
struct MomentsBackward {
  Pieces at;
  const T* x;
  const float *moments, *dmoments;
  T* dx;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const Pieces::Piece piece = at[i];
    float shift[kLanes] = {}, scale[kLanes] = {}, mean[kLanes] = {};
    for (int l = 0; l < piece.lanes && piece.channel + l < at.channels; ++l) {
      const std::int64_t c = piece.channel + l;
      mean[l] = moments[at.channels + c];
      shift[l] = dmoments[at.channels + c] / moments[c];
      scale[l] = 2.0f * dmoments[2 * at.channels + c] / moments[c];
    }
    const T* from = x;
    T* to = dx;
    if (accumulate) {
      sweep_piece(piece, at.block, [&](std::int64_t e, int l) {
        to[e] = to[e] + (shift[l] + scale[l] * (from[e] - mean[l]));
      });
    } else {
      sweep_piece(piece, at.block,
            [&](std::int64_t e, int l) { to[e] = shift[l] + scale[l] * (from[e] - mean[l]); });
    }
  }
};

template <typename T>
class MomentsKernel final : public Kernel {
 public:
  explicit MomentsKernel(const KernelContext& context)
      : stream_(context.stream), pieces_(context.inputs[0]) {}
  std::int64_t workspace_bytes() const override {
    return pieces_.count() * kLanes * static_cast<std::int64_t>(sizeof(Pair));
  }
  void forward(const KernelArgs& args) override {
    auto* sums = reinterpret_cast<Pair*>(args.workspace.data());
    comm::parallel_for(stream_, pieces_.count(),
                       PieceMoments<T>{pieces_, args.inputs[0].as<T>(), sums}, 1);
    comm::parallel_for(stream_, pieces_.channels,
                       ChannelMoments{pieces_, sums, args.outputs[0].f32()}, 64);
  }
  void backward(const KernelArgs& args) override {
    comm::parallel_for(stream_, pieces_.count(),
                       MomentsBackward<T>{pieces_, args.inputs[0].as<T>(), args.outputs[0].f32(),
                                          args.doutputs[0].f32(), args.dinputs[0].as<T>(),
                                          args.modes[0] == GradientMode::kAccumulate},
                       1);
  }

 private:
  comm::StreamView stream_;
  Pieces pieces_;
};

// Input: x. Output: count, mean and biased variance of each channel, (3, C).
class MomentsOp final : public Op {
 public:
  std::string name() const override { return "sync_moments"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    const Shape& x = inputs[0].shape;
    REQUIRE(x.rank == 4, "sync_moments of {}", to_string(x));
    return {{Type::kF32, {3, x[1]}}};
  }
  Saved saved() const override { return {{0}, {0}}; }
  LayoutRule layout() const override { return LayoutRule::kBlocked; }
  PrecisionRule precision() const override { return PrecisionRule::kReads; }
  bool synchronised() const override { return true; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    if (context.device.kind != comm::DeviceKind::kCpu) return compile_sync_moments_gpu(context);
    return make_kernel<MomentsKernel>(context.inputs[0].type, context);
  }
};

// y = (x - mean) gamma / sigma + beta forward, dx (+)= dy gamma / sigma backward (mean null).
// Padding channels become zeros.
template <typename T>
struct Apply {
  Pieces at;
  SyncChannels of;
  const T* from;
  const float* beta;
  T* to;
  bool backward, accumulate;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const Pieces::Piece piece = at[i];
    float scale[kLanes] = {}, mean[kLanes] = {}, shift[kLanes] = {};
    for (int l = 0; l < piece.lanes && piece.channel + l < at.channels; ++l) {
      const std::int64_t c = piece.channel + l;
      scale[l] = static_cast<float>(of.rstd(c) * of.gamma[c]);
      mean[l] = backward ? 0.0f : of.mean(c);
      shift[l] = backward ? 0.0f : beta[c];
    }
    const T* x = from;
    T* y = to;
    if (accumulate) {
      sweep_piece(piece, at.block, [&](std::int64_t e, int l) {
        y[e] = y[e] + ((x[e] - mean[l]) * scale[l] + shift[l]);
      });
    } else {
      sweep_piece(piece, at.block,
            [&](std::int64_t e, int l) { y[e] = (x[e] - mean[l]) * scale[l] + shift[l]; });
    }
  }
};

// sum dy and sum dy (x - mean) of every piece
template <typename T>
struct PieceGradients {
  Pieces at;
  SyncChannels of;
  const T *x, *dy;
  Pair* sums;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const Pieces::Piece piece = at[i];
    double plain[kLanes] = {}, projected[kLanes] = {};
    float mean[kLanes] = {};
    for (int l = 0; l < piece.lanes && piece.channel + l < at.channels; ++l) {
      mean[l] = of.mean(piece.channel + l);
    }
    const T *from = x, *d = dy;
    sweep_piece(piece, at.block, [&](std::int64_t e, int l) {
      plain[l] += d[e];
      projected[l] += double{float{d[e]}} * (from[e] - mean[l]);
    });
    for (int l = 0; l < kLanes; ++l) sums[i * kLanes + l] = {plain[l], projected[l]};
  }
};

struct ChannelGradients {
  Pieces at;
  SyncGradients gradients;
  const Pair* sums;
  RIDGELINE_HD void operator()(std::int64_t c) const {
    double s = 0, p = 0;
    for (std::int64_t n = 0; n < at.images; ++n) {
      for (std::int64_t chunk = 0; chunk < at.chunks(); ++chunk) {
        const Pair& piece = sums[at.sum_of(c, n, chunk)];
        s += piece.first;
        p += piece.second;
      }
    }
    gradients.give(c, s, p);
  }
};

template <typename T>
class SyncNormKernel final : public Kernel {
 public:
  SyncNormKernel(const KernelContext& context, float eps)
      : stream_(context.stream), pieces_(context.inputs[0]), eps_(eps) {}
  std::int64_t workspace_bytes() const override {
    return pieces_.count() * kLanes * static_cast<std::int64_t>(sizeof(Pair));
  }
  void forward(const KernelArgs& args) override {
    comm::parallel_for(stream_, pieces_.count(),
                       Apply<T>{pieces_, channels(args), args.inputs[0].as<T>(),
                                args.inputs[3].f32(), args.outputs[0].as<T>(), false, false},
                       1);
    comm::parallel_for(stream_, pieces_.channels,
                       SyncStatistics{channels(args), args.outputs[1].f32(),
                                      args.outputs[2].f32()});
  }
  void backward(const KernelArgs& args) override {
    auto* sums = reinterpret_cast<Pair*>(args.workspace.data());
    const T* dy = args.doutputs[0].as<T>();
    const auto target = [&](int i) { return Target{args.dinputs[i].f32(), args.modes[i]}; };
    comm::parallel_for(stream_, pieces_.count(),
                       PieceGradients<T>{pieces_, channels(args), args.inputs[0].as<T>(), dy, sums},
                       1);
    const SyncGradients gradients{channels(args), target(1), target(2), target(3)};
    comm::parallel_for(stream_, pieces_.channels, ChannelGradients{pieces_, gradients, sums}, 64);
    if (args.modes[0] == GradientMode::kNone) return;
    comm::parallel_for(stream_, pieces_.count(),
                       Apply<T>{pieces_, channels(args), dy, nullptr, args.dinputs[0].as<T>(), true,
                                args.modes[0] == GradientMode::kAccumulate},
                       1);
  }

 private:
  SyncChannels channels(const KernelArgs& args) const {
    return {args.inputs[1].f32(), args.inputs[2].f32(), pieces_.channels, eps_};
  }
  comm::StreamView stream_;
  Pieces pieces_;
  float eps_;
};

// Inputs: x, moments, gamma, beta. Outputs: y, mean, unbiased variance.
class SyncNormOp final : public Op {
 public:
  explicit SyncNormOp(float eps) : eps_(eps) {}
  std::string name() const override { return "sync_norm"; }
  std::string attributes() const override { return fmt::format("eps {:g}", eps_); }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    const Shape& x = inputs[0].shape;
    REQUIRE(x.rank == 4 && inputs[2].shape.count() == x[1] && inputs[3].shape.count() == x[1],
            "sync_norm of {}", to_string(x));
    const ValueSpec channels{Type::kF32, {x[1]}};
    return {inputs[0], channels, channels};
  }
  Saved saved() const override { return {{0, 1, 2}, {}}; }
  PrecisionRule precision() const override { return PrecisionRule::kFollow; }
  LayoutRule layout() const override { return LayoutRule::kBlocked; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    if (context.device.kind != comm::DeviceKind::kCpu) return compile_sync_norm_gpu(context, eps_);
    return make_kernel<SyncNormKernel>(context.outputs[0].type, context, eps_);
  }

 private:
  float eps_;
};

}  // namespace

Value sync_batch_norm(Graph& graph, Value x, const BatchNormParameters& parameters, float eps) {
  const Value moments = graph.add(std::make_shared<MomentsOp>(), {x})[0];
  const auto outputs =
      graph.add(std::make_shared<SyncNormOp>(eps), {x, moments, parameters.gamma, parameters.beta});
  graph.statistic(parameters.running_mean, outputs[1]);
  graph.statistic(parameters.running_variance, outputs[2]);
  return outputs[0];
}

}  // namespace models
