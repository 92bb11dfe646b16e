#include "models/ops/global_avg_pool.h"

#include "models/ops/elementwise.h"

namespace models {
namespace {

template <typename T>
struct Forward {
  const T* x;
  float* y;
  std::int64_t channels, cells;
  int block;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t n = i / channels, c = i % channels;
    const std::int64_t blocks = (channels + block - 1) / block;
    const T* from = x + (n * blocks + c / block) * cells * block + c % block;
    double sum = 0;
    for (std::int64_t k = 0; k < cells; ++k) sum += from[k * block];
    y[i] = static_cast<float>(sum / static_cast<double>(cells));
  }
};

// dx(n, c, h, w) (+)= dy(n, c) / (H W); channels that only fill a block stay zero
template <typename T>
struct Backward {
  const float* dy;
  T* dx;
  Shape shape;
  std::int64_t padded;  // elements of an image in memory
  int block;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t c = channel_of(i, shape, block), cells = shape[2] * shape[3];
    const float g = c < shape[1] ? dy[i / padded * shape[1] + c] / static_cast<float>(cells) : 0.0f;
    dx[i] = accumulate ? dx[i] + g : g;
  }
};

template <typename T>
class GlobalAvgPoolKernel final : public Kernel {
 public:
  explicit GlobalAvgPoolKernel(comm::StreamView stream) : stream_(stream) {}

  void forward(const KernelArgs& args) override {
    const Tensor& x = args.inputs[0];
    const std::int64_t cells = x.shape[2] * x.shape[3];
    comm::parallel_for(stream_, x.shape[0] * x.shape[1],
                       Forward<T>{x.as<T>(), args.outputs[0].f32(), x.shape[1], cells,
                                  x.channel_block},
                       64);
  }
  void backward(const KernelArgs& args) override {
    const Tensor& dx = args.dinputs[0];
    comm::parallel_for(
        stream_, dx.physical_count(),
        Backward<T>{args.doutputs[0].f32(), dx.as<T>(), dx.shape,
                    dx.physical_count() / dx.shape[0], dx.channel_block,
                    args.modes[0] == GradientMode::kAccumulate});
  }

 private:
  comm::StreamView stream_;
};

class GlobalAvgPoolOp final : public Op {
 public:
  std::string name() const override { return "global_avg_pool"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    const Shape& x = inputs[0].shape;
    REQUIRE(x.rank == 4, "global_avg_pool of {}", to_string(x));
    return {{Type::kF32, {x[0], x[1]}}};
  }
  LayoutRule layout() const override { return LayoutRule::kAny; }
  PrecisionRule precision() const override { return PrecisionRule::kReads; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return make_kernel<GlobalAvgPoolKernel>(context.inputs[0].type, context.stream);
  }
};

}  // namespace

Value global_avg_pool(Graph& graph, Value x) {
  return graph.add(std::make_shared<GlobalAvgPoolOp>(), {x})[0];
}

}  // namespace models
