// Max pooling as one body for any device, in any physical order. The index of a window's maximum
// lies where the maximum does, so that the gradient is a gather: no two threads write one element.
#include <algorithm>
#include <limits>

#include "comm/parallel.h"
#include "models/graph/element.h"
#include "models/ops/max_pool.h"

namespace models {
namespace {

// Physical positions in x and y, which share N, C and the channel block. Cells and runs of lanes
// are counted in 32 bits, elements in 64.
struct Windows {
  std::int32_t x_height, x_width, y_height, y_width, block;
  std::int32_t window, stride, padding;

  Windows(const MaxPoolOp& op, const KernelContext& context)
      : x_height(extent(context.inputs[0], 2)),
        x_width(extent(context.inputs[0], 3)),
        y_height(extent(context.outputs[0], 2)),
        y_width(extent(context.outputs[0], 3)),
        block(context.outputs[0].channel_block),
        window(op.window()),
        stride(op.stride()),
        padding(op.padding()) {
    REQUIRE(context.inputs[0].channel_block == block, "blocks of {} and {} channels",
            context.inputs[0].channel_block, block);
  }
  static std::int32_t extent(const Tensor& tensor, int d) {
    return static_cast<std::int32_t>(tensor.shape[d]);
  }
};

// Cell (row, column) of a plane of height x width cells, where the run of N lanes is.
struct CellOf {
  std::int32_t row, column;
  std::int64_t plane;
  std::int32_t lane;
  RIDGELINE_HD CellOf(std::int64_t run, int lanes, std::int32_t block, std::int32_t height,
                      std::int32_t width) {
    const auto index = static_cast<std::uint32_t>(run);
    const std::uint32_t runs = static_cast<std::uint32_t>(block / lanes), cell = index / runs;
    const std::uint32_t line = cell / static_cast<std::uint32_t>(width);
    const std::uint32_t outer = line / static_cast<std::uint32_t>(height);
    lane = static_cast<std::int32_t>(index - cell * runs) * lanes;
    column = static_cast<std::int32_t>(cell - line * static_cast<std::uint32_t>(width));
    row = static_cast<std::int32_t>(line - outer * static_cast<std::uint32_t>(height));
    plane = outer;
  }
};

// y(n, c, i, j) = the first maximum of its window; a value that is not a number wins
template <typename T, int N>
struct Forward {
  Windows w;
  const T* x;
  T* y;
  std::uint8_t* indices;  // null: not wanted
  RIDGELINE_HD void operator()(std::int64_t run) const {
    const CellOf at(run, N, w.block, w.y_height, w.y_width);
    const T* plane = x + at.plane * w.x_height * w.x_width * w.block + at.lane;
    const std::int32_t top = at.row * w.stride - w.padding;
    const std::int32_t left = at.column * w.stride - w.padding;
    comm::Pack<float, N> best;
    comm::Pack<std::uint8_t, N> index = {};
    for (int k = 0; k < N; ++k) best[k] = -std::numeric_limits<float>::infinity();
    bool is_first = true;
    for (int r = 0; r < w.window; ++r) {
      const std::int32_t h = top + r;
      if (h < 0 || h >= w.x_height) continue;
      for (int s = 0; s < w.window; ++s) {
        const std::int32_t v = left + s;
        if (v < 0 || v >= w.x_width) continue;
        const std::int64_t cell = std::int64_t{h} * w.x_width + v;
        const auto values = comm::load(plane + cell * w.block, comm::Lanes<N>{});
        for (int k = 0; k < N; ++k) {
          const float value = values[k];
          const bool wins = is_first || value > best[k] || value != value;
          best[k] = wins ? value : best[k];
          index[k] = wins ? static_cast<std::uint8_t>(r * w.window + s) : index[k];
        }
        is_first = false;
      }
    }
    comm::store(y + run * N, best);
    if (indices) comm::store(indices + run * N, index);
  }
};

// dx(n, c, h, v) (+)= sum of dy over the windows whose maximum it is
template <typename T, int N>
struct Backward {
  Windows w;
  const T* dy;
  const std::uint8_t* indices;
  T* dx;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t run) const {
    const CellOf at(run, N, w.block, w.x_height, w.x_width);
    const std::int32_t v = at.column + w.padding, h = at.row + w.padding;  // in the padded plane
    const std::int64_t plane = at.plane * w.y_height * w.y_width * w.block + at.lane;
    comm::Pack<float, N> sum = {};
    for (std::int32_t i = first(h); i <= last(h, w.y_height); ++i) {
      for (std::int32_t j = first(v); j <= last(v, w.y_width); ++j) {
        const std::int64_t from = plane + (std::int64_t{i} * w.y_width + j) * w.block;
        const std::int32_t index = (h - i * w.stride) * w.window + (v - j * w.stride);
        const auto maxima = comm::load(indices + from, comm::Lanes<N>{});
        const auto d = comm::load(dy + from, comm::Lanes<N>{});
        for (int k = 0; k < N; ++k) sum[k] += maxima[k] == index ? float{d[k]} : 0.0f;
      }
    }
    if (accumulate) {
      const auto before = comm::load(dx + run * N, comm::Lanes<N>{});
      for (int k = 0; k < N; ++k) sum[k] = before[k] + sum[k];
    }
    comm::store(dx + run * N, sum);
  }
  // The windows that reach a padded row or column.
  RIDGELINE_HD std::int32_t first(std::int32_t at) const {
    return at < w.window ? 0 : (at - w.window) / w.stride + 1;
  }
  RIDGELINE_HD std::int32_t last(std::int32_t at, std::int32_t count) const {
    return at / w.stride < count ? at / w.stride : count - 1;
  }
};

template <typename T>
class MaxPoolGpu final : public Kernel {
 public:
  MaxPoolGpu(const MaxPoolOp& op, const KernelContext& context)
      : stream_(context.stream),
        windows_(op, context),
        keeps_indices_(context.training && context.wants_gradient[0]) {
    const std::int64_t count = context.outputs[0].physical_count();
    REQUIRE(count <= context.outputs[1].physical_count(), "{} indices for {} maxima",
            context.outputs[1].physical_count(), count);
    const std::int64_t most =
        std::max(count, context.inputs[0].physical_count()) / (vectors() ? kVector : 1);
    REQUIRE(most < std::int64_t{1} << 32, "max_pool of {}", to_string(context.inputs[0].shape));
  }
  std::string implementation() const override { return "own"; }

  void forward(const KernelArgs& args) override {
    if (vectors()) return forward_by<kVector>(args);
    forward_by<1>(args);
  }
  void backward(const KernelArgs& args) override {
    if (vectors()) return backward_by<kVector>(args);
    backward_by<1>(args);
  }

 private:
  static constexpr int kVector = 8;  // channels of a thread
  bool vectors() const { return windows_.block % kVector == 0; }

  template <int N>
  void forward_by(const KernelArgs& args) const {
    auto* indices = keeps_indices_ ? args.outputs[1].as<std::uint8_t>() : nullptr;
    comm::parallel_for(
        stream_, args.outputs[0].physical_count() / N,
        Forward<T, N>{windows_, args.inputs[0].as<T>(), args.outputs[0].as<T>(), indices});
  }
  template <int N>
  void backward_by(const KernelArgs& args) const {
    comm::parallel_for(
        stream_, args.dinputs[0].physical_count() / N,
        Backward<T, N>{windows_, args.doutputs[0].as<T>(), args.outputs[1].as<std::uint8_t>(),
                       args.dinputs[0].as<T>(), args.modes[0] == GradientMode::kAccumulate});
  }

  comm::StreamView stream_;
  Windows windows_;
  bool keeps_indices_;
};

}  // namespace

std::unique_ptr<Kernel> compile_max_pool_gpu(const MaxPoolOp& op, const KernelContext& context) {
  return make_kernel<MaxPoolGpu>(context.outputs[0].type, op, context);
}

}  // namespace models
