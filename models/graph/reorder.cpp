#include "models/graph/reorder.h"

#include "comm/parallel.h"

namespace models {
namespace {

// One row (n, c, h, :) of dst from src, channel by channel: the inner loop is over w.
struct CopyRow {
  const float* src;
  float* dst;
  Shape shape;
  int src_block, dst_block;
  bool accumulate;

  RIDGELINE_HD void operator()(std::int64_t row) const {
    const std::int64_t channels = shape[1], height = shape[2], width = shape[3];
    const std::int64_t padded = (channels + dst_block - 1) / dst_block * dst_block;
    const std::int64_t h = row % height, c = row / height % padded, n = row / (height * padded);
    float* to = dst + at(n, c, h, dst_block);
    if (c >= channels) {
      for (std::int64_t w = 0; w < width; ++w) to[w * dst_block] = 0.0f;
      return;
    }
    const float* from = src + at(n, c, h, src_block);
    for (std::int64_t w = 0; w < width; ++w) {
      to[w * dst_block] = from[w * src_block] + (accumulate ? to[w * dst_block] : 0.0f);
    }
  }

  RIDGELINE_HD std::int64_t at(std::int64_t n, std::int64_t c, std::int64_t h, int block) const {
    const std::int64_t blocks = (shape[1] + block - 1) / block;
    return ((n * blocks + c / block) * shape[2] + h) * shape[3] * block + c % block;
  }
};

class ReorderKernel final : public Kernel {
 public:
  explicit ReorderKernel(comm::StreamView stream) : stream_(stream) {}
  void forward(const KernelArgs& args) override {
    reorder(stream_, args.inputs[0], args.outputs[0], false);
  }
  // dx = dy, in the order of x
  void backward(const KernelArgs& args) override {
    if (args.modes[0] == GradientMode::kNone) return;
    reorder(stream_, args.doutputs[0], args.dinputs[0],
            args.modes[0] == GradientMode::kAccumulate);
  }

 private:
  comm::StreamView stream_;
};

class ReorderOp final : public Op {
 public:
  std::string name() const override { return "reorder"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    return {inputs[0]};
  }
  LayoutRule layout() const override { return LayoutRule::kAny; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return std::make_unique<ReorderKernel>(context.stream);
  }
};

}  // namespace

std::shared_ptr<const Op> make_reorder() { return std::make_shared<ReorderOp>(); }

void reorder(comm::StreamView stream, const Tensor& src, const Tensor& dst, bool accumulate) {
  REQUIRE(src.shape == dst.shape && src.type == Type::kF32, "{} to {}", to_string(src.shape),
          to_string(dst.shape));
  const std::int64_t padded = (src.shape[1] + dst.channel_block - 1) / dst.channel_block *
                              dst.channel_block;
  comm::parallel_for(stream, src.shape[0] * padded * src.shape[2],
                     CopyRow{src.f32(), dst.f32(), src.shape, src.channel_block, dst.channel_block,
                             accumulate},
                     64);
}

}  // namespace models
