// Max pooling as one body for any device, in any physical order. The index of a window's maximum
// lies where the maximum does, so that the gradient is a gather: no two threads write one element.
#include <limits>

#include "comm/parallel.h"
#include "models/graph/element.h"
#include "models/ops/max_pool.h"

namespace models {
namespace {

// Physical positions of one channel's plane in x and y, which share N, C and the channel block.
struct Windows {
  std::int64_t x_height, x_width, y_height, y_width, block;
  int window, stride, padding;

  Windows(const MaxPoolOp& op, const KernelContext& context)
      : x_height(context.inputs[0].shape[2]),
        x_width(context.inputs[0].shape[3]),
        y_height(context.outputs[0].shape[2]),
        y_width(context.outputs[0].shape[3]),
        block(context.outputs[0].channel_block),
        window(op.window()),
        stride(op.stride()),
        padding(op.padding()) {
    REQUIRE(context.inputs[0].channel_block == block, "blocks of {} and {} channels",
            context.inputs[0].channel_block, block);
  }
};

// y(n, c, i, j) = the first maximum of its window; a value that is not a number wins
template <typename T>
struct Forward {
  Windows w;
  const T* x;
  T* y;
  std::uint8_t* indices;  // null: not wanted
  RIDGELINE_HD void operator()(std::int64_t element) const {
    const std::int64_t lane = element % w.block, cell = element / w.block;
    const std::int64_t j = cell % w.y_width, i = cell / w.y_width % w.y_height;
    const std::int64_t outer = cell / w.y_width / w.y_height;
    const T* plane = x + outer * w.x_height * w.x_width * w.block + lane;
    const std::int64_t top = i * w.stride - w.padding, left = j * w.stride - w.padding;
    float best = -std::numeric_limits<float>::infinity();
    int at = -1;
    for (int r = 0; r < w.window; ++r) {
      const std::int64_t h = top + r;
      if (h < 0 || h >= w.x_height) continue;
      for (int s = 0; s < w.window; ++s) {
        const std::int64_t v = left + s;
        if (v < 0 || v >= w.x_width) continue;
        const float value = plane[(h * w.x_width + v) * w.block];
        if (at < 0 || value > best || value != value) {
          best = value;
          at = r * w.window + s;
        }
      }
    }
    y[element] = best;
    if (indices) indices[element] = static_cast<std::uint8_t>(at);
  }
};

// dx(n, c, h, v) (+)= sum of dy over the windows whose maximum it is
template <typename T>
struct Backward {
  Windows w;
  const T* dy;
  const std::uint8_t* indices;
  T* dx;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t element) const {
    const std::int64_t lane = element % w.block, cell = element / w.block;
    const std::int64_t v = cell % w.x_width + w.padding;  // in the padded plane
    const std::int64_t h = cell / w.x_width % w.x_height + w.padding;
    const std::int64_t outer = cell / w.x_width / w.x_height;
    const std::int64_t plane = outer * w.y_height * w.y_width * w.block + lane;
    float sum = 0.0f;
    for (std::int64_t i = first(h); i <= last(h, w.y_height); ++i) {
      for (std::int64_t j = first(v); j <= last(v, w.y_width); ++j) {
        const std::int64_t at = plane + (i * w.y_width + j) * w.block;
        const std::int64_t index = (h - i * w.stride) * w.window + (v - j * w.stride);
        if (indices[at] == index) sum += dy[at];
      }
    }
    dx[element] = accumulate ? dx[element] + sum : sum;
  }
  // The windows that reach a padded row or column.
  RIDGELINE_HD std::int64_t first(std::int64_t at) const {
    return at < w.window ? 0 : (at - w.window) / w.stride + 1;
  }
  RIDGELINE_HD std::int64_t last(std::int64_t at, std::int64_t count) const {
    return at / w.stride < count ? at / w.stride : count - 1;
  }
};

template <typename T>
class MaxPoolGpu final : public Kernel {
 public:
  MaxPoolGpu(const MaxPoolOp& op, const KernelContext& context)
      : stream_(context.stream), windows_(op, context), training_(context.training) {
    REQUIRE(context.outputs[0].physical_count() <= context.outputs[1].physical_count(),
            "{} indices for {} maxima", context.outputs[1].physical_count(),
            context.outputs[0].physical_count());
  }
  std::string implementation() const override { return "own"; }

  void forward(const KernelArgs& args) override {
    comm::parallel_for(stream_, args.outputs[0].physical_count(),
                       Forward<T>{windows_, args.inputs[0].as<T>(), args.outputs[0].as<T>(),
                                  training_ ? args.outputs[1].as<std::uint8_t>() : nullptr});
  }
  void backward(const KernelArgs& args) override {
    comm::parallel_for(
        stream_, args.dinputs[0].physical_count(),
        Backward<T>{windows_, args.doutputs[0].as<T>(), args.outputs[1].as<std::uint8_t>(),
                    args.dinputs[0].as<T>(), args.modes[0] == GradientMode::kAccumulate});
  }

 private:
  comm::StreamView stream_;
  Windows windows_;
  bool training_;
};

}  // namespace

std::unique_ptr<Kernel> compile_max_pool_gpu(const MaxPoolOp& op, const KernelContext& context) {
  return make_kernel<MaxPoolGpu>(context.outputs[0].type, op, context);
}

}  // namespace models
