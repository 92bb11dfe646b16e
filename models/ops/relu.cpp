#include "models/ops/relu.h"

#include "models/ops/elementwise.h"

namespace models {
namespace {

template <typename T>
struct Forward {
  const T* x;
  T* y;
  RIDGELINE_HD void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t i = begin; i < end; ++i) {
      const float value = x[i];
      y[i] = value > 0.0f ? value : 0.0f;
    }
  }
};

// dx (+)= dy [y > 0]
template <typename T>
struct Backward {
  const T *y, *dy;
  T* dx;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t i = begin; i < end; ++i) {
      const float d = dy[i], g = y[i] > 0.0f ? d : 0.0f;
      dx[i] = accumulate ? dx[i] + g : g;
    }
  }
};

template <typename T>
class ReluKernel final : public Kernel {
 public:
  explicit ReluKernel(comm::StreamView stream) : stream_(stream) {}
  void forward(const KernelArgs& args) override {
    const Tensor& y = args.outputs[0];
    sweep(stream_, y.physical_count(), Forward<T>{args.inputs[0].as<T>(), y.as<T>()});
  }
  void backward(const KernelArgs& args) override {
    const Tensor& y = args.outputs[0];
    sweep(stream_, y.physical_count(),
          Backward<T>{y.as<T>(), args.doutputs[0].as<T>(), args.dinputs[0].as<T>(),
                      args.modes[0] == GradientMode::kAccumulate});
  }

 private:
  comm::StreamView stream_;
};

}  // namespace

Value relu(Graph& graph, Value x) { return graph.add(std::make_shared<ReluOp>(), {x})[0]; }

std::unique_ptr<Kernel> ReluOp::compile(const KernelContext& context) const {
  return make_kernel<ReluKernel>(context.outputs[0].type, context.stream);
}

}  // namespace models
