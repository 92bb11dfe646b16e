#include "models/ops/crop.h"

#include <fmt/format.h>

#include "models/ops/elementwise.h"

namespace models {
namespace {

// A row of `to`, or its element i: what lies `top` below and `left` to the right in `from`, where
// it exists. Serves both directions, since the gradient is the crop by the opposite offset.
template <typename T>
struct Copy {
  const T* from;
  T* to;
  Shape source, target;
  std::int64_t top, left;
  int block;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t row) const {
    for (std::int64_t i = 0; i < target[3] * block; ++i) (*this)(row, i);
  }
  RIDGELINE_HD void operator()(std::int64_t row, std::int64_t i) const {
    const std::int64_t h = row % target[2] + top, plane = row / target[2];
    const std::int64_t reach = source[3] * block, at = i + left * block;
    float value = 0.0f;
    if (h >= 0 && h < source[2] && at >= 0 && at < reach) {
      value = from[(plane * source[2] + h) * reach + at];
    }
    T& y = to[row * target[3] * block + i];
    y = accumulate ? y + value : value;
  }
};

template <typename T>
class CropKernel final : public Kernel {
 public:
  CropKernel(comm::StreamView stream, const CropWindow& window)
      : stream_(stream), window_(window) {}
  void forward(const KernelArgs& args) override {
    copy(args.inputs[0], args.outputs[0], window_.top, window_.left, false);
  }
  // dx(h, w) (+)= dy(h - top, w - left)
  void backward(const KernelArgs& args) override {
    copy(args.doutputs[0], args.dinputs[0], -window_.top, -window_.left,
         args.modes[0] == GradientMode::kAccumulate);
  }

 private:
  void copy(const Tensor& from, const Tensor& to, std::int64_t top, std::int64_t left,
            bool accumulate) const {
    const int block = from.channel_block;
    const std::int64_t planes = from.shape[0] * ((from.shape[1] + block - 1) / block);
    comm::parallel_for_rows(
        stream_, planes * to.shape[2], to.shape[3] * block,
        Copy<T>{from.as<T>(), to.as<T>(), from.shape, to.shape, top, left, block, accumulate}, 32);
  }
  comm::StreamView stream_;
  CropWindow window_;
};

class CropOp final : public Op {
 public:
  explicit CropOp(const CropWindow& window) : window_(window) {}
  std::string name() const override { return "crop"; }
  std::string attributes() const override {
    return fmt::format("top {} left {}", window_.top, window_.left);
  }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    Shape y = inputs[0].shape;
    REQUIRE(y.rank == 4 && window_.height > 0 && window_.width > 0, "crop of {} to {}x{}",
            to_string(y), window_.height, window_.width);
    y[2] = window_.height;
    y[3] = window_.width;
    return {{Type::kF32, y}};
  }
  PrecisionRule precision() const override { return PrecisionRule::kFollow; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return make_kernel<CropKernel>(context.outputs[0].type, context.stream, window_);
  }

 private:
  CropWindow window_;
};

}  // namespace

Value crop(Graph& graph, Value x, const CropWindow& window) {
  return graph.add(std::make_shared<CropOp>(window), {x})[0];
}

}  // namespace models
