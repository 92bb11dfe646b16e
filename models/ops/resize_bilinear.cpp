#include "models/ops/resize_bilinear.h"

#include <algorithm>

#include "models/ops/resample.h"

namespace models {
namespace {

// Weights of the sources of every output index: two neighbours, one at the borders.
Band band(std::int64_t in, std::int64_t out) {
  Band rows;
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  for (std::int64_t i = 0; i < out; ++i) {
    const double source = std::max(0.0, (static_cast<double>(i) + 0.5) * scale - 0.5);
    const std::int64_t low = std::min(static_cast<std::int64_t>(source), in - 1);
    const auto weight = static_cast<float>(source - static_cast<double>(low));
    if (low == in - 1) {
      rows.add_row(low, std::vector<float>{1.0f});
    } else {
      rows.add_row(low, std::vector<float>{1.0f - weight, weight});
    }
  }
  return rows;
}

class ResizeBilinearOp final : public Op {
 public:
  ResizeBilinearOp(std::int64_t height, std::int64_t width) : height_(height), width_(width) {}
  std::string name() const override { return "resize_bilinear"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    Shape y = inputs[0].shape;
    REQUIRE(y.rank == 4 && height_ > 0 && width_ > 0, "resize of {} to {}x{}", to_string(y),
            height_, width_);
    y[2] = height_;
    y[3] = width_;
    return {{Type::kF32, y}};
  }
  LayoutRule layout() const override { return LayoutRule::kPlain; }
  PrecisionRule precision() const override { return PrecisionRule::kFollow; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    const Shape& x = context.inputs[0].shape;
    return make_resample(context, band(x[2], height_), band(x[3], width_));
  }

 private:
  std::int64_t height_, width_;
};

}  // namespace

Value resize_bilinear(Graph& graph, Value x, std::int64_t height, std::int64_t width) {
  if (graph.shape(x)[2] == height && graph.shape(x)[3] == width) return x;
  return graph.add(std::make_shared<ResizeBilinearOp>(height, width), {x})[0];
}

}  // namespace models
