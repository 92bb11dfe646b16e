#include "models/ops/upsample_nearest.h"

#include "comm/parallel.h"

namespace models {
namespace {

struct Sizes {
  std::int64_t planes, height, width, out_height, out_width, block;
};

// One row of y: (plane, h)
struct Forward {
  const float* x;
  float* y;
  Sizes s;
  RIDGELINE_HD void operator()(std::int64_t row) const {
    const std::int64_t h = row % s.out_height, plane = row / s.out_height;
    const float* from = x + (plane * s.height + h * s.height / s.out_height) * s.width * s.block;
    float* to = y + row * s.out_width * s.block;
    for (std::int64_t w = 0; w < s.out_width; ++w) {
      const float* pixel = from + w * s.width / s.out_width * s.block;
      for (std::int64_t c = 0; c < s.block; ++c) to[w * s.block + c] = pixel[c];
    }
  }
};

// One row of dx: every dy whose source it is, in ascending order. dx (+)= sum dy
struct Backward {
  const float* dy;
  float* dx;
  Sizes s;
  bool accumulate;
  // First output index whose source is at least i.
  RIDGELINE_HD static std::int64_t first(std::int64_t i, std::int64_t in, std::int64_t out) {
    return (i * out + in - 1) / in;
  }
  RIDGELINE_HD void operator()(std::int64_t row) const {
    const std::int64_t h = row % s.height, plane = row / s.height;
    float* to = dx + row * s.width * s.block;
    if (!accumulate) {
      for (std::int64_t i = 0; i < s.width * s.block; ++i) to[i] = 0.0f;
    }
    const std::int64_t end = first(h + 1, s.height, s.out_height);
    for (std::int64_t y = first(h, s.height, s.out_height); y < end; ++y) {
      const float* from = dy + (plane * s.out_height + y) * s.out_width * s.block;
      for (std::int64_t w = 0; w < s.out_width; ++w) {
        float* pixel = to + w * s.width / s.out_width * s.block;
        for (std::int64_t c = 0; c < s.block; ++c) pixel[c] += from[w * s.block + c];
      }
    }
  }
};

class UpsampleKernel final : public Kernel {
 public:
  explicit UpsampleKernel(comm::StreamView stream) : stream_(stream) {}
  void forward(const KernelArgs& args) override {
    const Sizes s = sizes(args.inputs[0], args.outputs[0]);
    comm::parallel_for(stream_, s.planes * s.out_height,
                       Forward{args.inputs[0].f32(), args.outputs[0].f32(), s}, 32);
  }
  void backward(const KernelArgs& args) override {
    const Sizes s = sizes(args.dinputs[0], args.doutputs[0]);
    comm::parallel_for(stream_, s.planes * s.height,
                       Backward{args.doutputs[0].f32(), args.dinputs[0].f32(), s,
                                args.modes[0] == GradientMode::kAccumulate},
                       16);
  }

 private:
  static Sizes sizes(const Tensor& x, const Tensor& y) {
    const std::int64_t block = x.channel_block;
    return {x.shape[0] * ((x.shape[1] + block - 1) / block), x.shape[2], x.shape[3], y.shape[2],
            y.shape[3], block};
  }
  comm::StreamView stream_;
};

class UpsampleNearestOp final : public Op {
 public:
  UpsampleNearestOp(std::int64_t height, std::int64_t width) : height_(height), width_(width) {}
  std::string name() const override { return "upsample_nearest"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    Shape y = inputs[0].shape;
    REQUIRE(y.rank == 4 && y[2] <= height_ && y[3] <= width_, "upsample {} to {}x{}", to_string(y),
            height_, width_);
    y[2] = height_;
    y[3] = width_;
    return {{Type::kF32, y}};
  }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return std::make_unique<UpsampleKernel>(context.stream);
  }

 private:
  std::int64_t height_, width_;
};

}  // namespace

Value upsample_nearest(Graph& graph, Value x, std::int64_t height, std::int64_t width) {
  return graph.add(std::make_shared<UpsampleNearestOp>(height, width), {x})[0];
}

}  // namespace models
