#include "models/ops/relu.h"

#include "models/ops/elementwise.h"

namespace models {
namespace {

template <typename T>
struct Forward {
  const T* x;
  T* y;
  template <int N>
  RIDGELINE_HD void operator()(std::int64_t i, comm::Lanes<N> lanes) const {
    const comm::Pack<T, N> from = comm::load(x + i, lanes);
    comm::Pack<float, N> to;
    comm::each(comm::Lanes<N>{}, [&](int k) {
      const float value = from[k];
      to[k] = value > 0.0f ? value : 0.0f;
    });
    comm::store(y + i, to);
  }
};

// dx (+)= dy [y > 0]
template <typename T>
struct Backward {
  const T *y, *dy;
  T* dx;
  bool accumulate;
  template <int N>
  RIDGELINE_HD void operator()(std::int64_t i, comm::Lanes<N> lanes) const {
    const comm::Pack<T, N> of = comm::load(y + i, lanes), from = comm::load(dy + i, lanes);
    comm::Pack<T, N> there;
    if (accumulate) there = comm::load(dx + i, lanes);
    comm::Pack<float, N> to;
    comm::each(comm::Lanes<N>{}, [&](int k) {
      const float d = from[k], g = of[k] > 0.0f ? d : 0.0f;
      to[k] = accumulate ? there[k] + g : g;
    });
    comm::store(dx + i, to);
  }
};

template <typename T>
class ReluKernel final : public Kernel {
 public:
  explicit ReluKernel(comm::StreamView stream) : stream_(stream) {}
  void forward(const KernelArgs& args) override {
    const Tensor &x = args.inputs[0], &y = args.outputs[0];
    sweep_vectors<T>(stream_, y.physical_count(), Forward<T>{x.as<T>(), y.as<T>()},
                     {x.data, y.data});
  }
  void backward(const KernelArgs& args) override {
    const Tensor &y = args.outputs[0], &dy = args.doutputs[0], &dx = args.dinputs[0];
    const bool accumulate = args.modes[0] == GradientMode::kAccumulate;
    sweep_vectors<T>(stream_, y.physical_count(),
                     Backward<T>{y.as<T>(), dy.as<T>(), dx.as<T>(), accumulate},
                     {y.data, dy.data, dx.data});
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
