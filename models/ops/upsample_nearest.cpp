#include "models/ops/upsample_nearest.h"

#include "models/ops/elementwise.h"

namespace models {
namespace {

struct Sizes {
  std::int64_t planes, height, width, out_height, out_width, block;
};

// A row (plane, h) of y, or its element i.
template <typename T>
struct Forward {
  const T* x;
  T* y;
  Sizes s;
  RIDGELINE_HD const T* source(std::int64_t row) const {
    const std::int64_t h = row % s.out_height, plane = row / s.out_height;
    return x + (plane * s.height + h * s.height / s.out_height) * s.width * s.block;
  }
  RIDGELINE_HD void operator()(std::int64_t row) const {
    const T* from = source(row);
    T* to = y + row * s.out_width * s.block;
    for (std::int64_t w = 0; w < s.out_width; ++w) {
      const T* pixel = from + w * s.width / s.out_width * s.block;
      for (std::int64_t c = 0; c < s.block; ++c) to[w * s.block + c] = pixel[c];
    }
  }
  RIDGELINE_HD void operator()(std::int64_t row, std::int64_t i) const {
    const std::int64_t w = i / s.block, c = i % s.block;
    const T value = source(row)[w * s.width / s.out_width * s.block + c];
    y[row * s.out_width * s.block + i] = value;
  }
};

// A row (plane, h) of dx, or its element i: dx (+)= sum of every dy whose source it is, ascending.
template <typename T>
struct Backward {
  static constexpr int kLanes = 16;  // channels of a pixel that are added together
  const T* dy;
  T* dx;
  Sizes s;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t row) const {
    for (std::int64_t w = 0; w < s.width; ++w) {
      std::int64_t c = 0;
      for (; c + kLanes <= s.block; c += kLanes) add<kLanes>(row, w, c);
      for (; c < s.block; ++c) add<1>(row, w, c);
    }
  }
  RIDGELINE_HD void operator()(std::int64_t row, std::int64_t i) const {
    add<1>(row, i / s.block, i % s.block);
  }

  template <int kCount>
  RIDGELINE_HD void add(std::int64_t row, std::int64_t w, std::int64_t c) const {
    const std::int64_t h = row % s.height, plane = row / s.height;
    T* to = dx + (row * s.width + w) * s.block + c;
    float sums[kCount];
    for (int l = 0; l < kCount; ++l) sums[l] = accumulate ? float{to[l]} : 0.0f;
    const std::int64_t bottom = first(h + 1, s.height, s.out_height);
    const std::int64_t left = first(w, s.width, s.out_width);
    const std::int64_t right = first(w + 1, s.width, s.out_width);
    for (std::int64_t i = first(h, s.height, s.out_height); i < bottom; ++i) {
      for (std::int64_t j = left; j < right; ++j) {
        const T* from = dy + ((plane * s.out_height + i) * s.out_width + j) * s.block + c;
        for (int l = 0; l < kCount; ++l) sums[l] += from[l];
      }
    }
    for (int l = 0; l < kCount; ++l) to[l] = sums[l];
  }
  // First output index whose source is at least i.
  RIDGELINE_HD static std::int64_t first(std::int64_t i, std::int64_t in, std::int64_t out) {
    return (i * out + in - 1) / in;
  }
};

template <typename T>
class UpsampleKernel final : public Kernel {
 public:
  explicit UpsampleKernel(comm::StreamView stream) : stream_(stream) {}
  void forward(const KernelArgs& args) override {
    const Sizes s = sizes(args.inputs[0], args.outputs[0]);
    comm::parallel_for_rows(stream_, s.planes * s.out_height, s.out_width * s.block,
                            Forward<T>{args.inputs[0].as<T>(), args.outputs[0].as<T>(), s}, 32);
  }
  void backward(const KernelArgs& args) override {
    const Sizes s = sizes(args.dinputs[0], args.doutputs[0]);
    comm::parallel_for_rows(stream_, s.planes * s.height, s.width * s.block,
                            Backward<T>{args.doutputs[0].as<T>(), args.dinputs[0].as<T>(), s,
                                        args.modes[0] == GradientMode::kAccumulate},
                            16);
  }

 private:
  static Sizes sizes(const Tensor& x, const Tensor& y) {
    const std::int64_t block = x.channel_block;
    return {x.shape[0] * ((x.shape[1] + block - 1) / block),
            x.shape[2],
            x.shape[3],
            y.shape[2],
            y.shape[3],
            block};
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
  PrecisionRule precision() const override { return PrecisionRule::kFollow; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return make_kernel<UpsampleKernel>(context.outputs[0].type, context.stream);
  }

 private:
  std::int64_t height_, width_;
};

}  // namespace

Value upsample_nearest(Graph& graph, Value x, std::int64_t height, std::int64_t width) {
  return graph.add(std::make_shared<UpsampleNearestOp>(height, width), {x})[0];
}

}  // namespace models
