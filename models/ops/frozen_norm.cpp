#include "models/ops/frozen_norm.h"

#include <fmt/format.h>

#include <cmath>

#include "models/ops/elementwise.h"

namespace models {
namespace {

// y = (x - mean) * s + beta forward, dx (+)= dy * s backward; s = gamma / sqrt(variance + eps).
// Padding channels hold zeros and stay zeros.
template <typename T>
struct Normalise {
  const T* from;
  T* to;
  const float *gamma, *beta, *mean, *variance;
  Shape shape;
  int block;
  float eps;
  bool backward, accumulate;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t c = channel_of(i, shape, block);
    float value = 0.0f;
    if (c < shape[1]) {
      const float s = gamma[c] / std::sqrt(variance[c] + eps);
      value = backward ? from[i] * s : (from[i] - mean[c]) * s + beta[c];
    }
    to[i] = accumulate ? to[i] + value : value;
  }
};

template <typename T>
class FrozenNormKernel final : public Kernel {
 public:
  FrozenNormKernel(comm::StreamView stream, float eps) : stream_(stream), eps_(eps) {}
  void forward(const KernelArgs& args) override {
    run(args, args.inputs[0], args.outputs[0], false, false);
  }
  void backward(const KernelArgs& args) override {
    run(args, args.doutputs[0], args.dinputs[0], true,
        args.modes[0] == GradientMode::kAccumulate);
  }

 private:
  void run(const KernelArgs& args, const Tensor& from, const Tensor& to, bool backward,
           bool accumulate) {
    comm::parallel_for(stream_, to.physical_count(),
                       Normalise<T>{from.as<T>(), to.as<T>(), args.inputs[1].f32(),
                                    args.inputs[2].f32(), args.inputs[3].f32(),
                                    args.inputs[4].f32(), to.shape, to.channel_block, eps_,
                                    backward, accumulate});
  }
  comm::StreamView stream_;
  float eps_;
};

}  // namespace

Value frozen_norm(Graph& graph, Value x, const std::array<Value, 4>& statistics, float eps) {
  return graph.add(std::make_shared<FrozenNormOp>(eps),
                   {x, statistics[0], statistics[1], statistics[2], statistics[3]})[0];
}

std::string FrozenNormOp::attributes() const { return fmt::format("eps {:g}", eps_); }

std::vector<ValueSpec> FrozenNormOp::infer(std::span<const ValueSpec> inputs) const {
  for (int i = 1; i < 5; ++i) {
    REQUIRE(inputs[i].shape.count() == inputs[0].shape[1], "frozen_norm of {} channels with {}",
            inputs[0].shape[1], to_string(inputs[i].shape));
  }
  return {inputs[0]};
}

std::unique_ptr<Kernel> FrozenNormOp::compile(const KernelContext& context) const {
  return make_kernel<FrozenNormKernel>(context.outputs[0].type, context.stream, eps_);
}

}  // namespace models
