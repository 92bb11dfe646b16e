#include "models/ops/scale.h"

#include <fmt/format.h>

#include "models/ops/elementwise.h"

namespace models {
namespace {

// to (+)= factor from
template <typename T>
struct Multiply {
  const T* from;
  T* to;
  float factor;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t begin, std::int64_t end) const {
    if (accumulate) {
      for (std::int64_t i = begin; i < end; ++i) to[i] = to[i] + factor * from[i];
    } else {
      for (std::int64_t i = begin; i < end; ++i) to[i] = factor * from[i];
    }
  }
};

template <typename T>
class ScaleKernel final : public Kernel {
 public:
  ScaleKernel(comm::StreamView stream, float factor) : stream_(stream), factor_(factor) {}
  void forward(const KernelArgs& args) override { run(args.inputs[0], args.outputs[0], false); }
  void backward(const KernelArgs& args) override {
    run(args.doutputs[0], args.dinputs[0], args.modes[0] == GradientMode::kAccumulate);
  }

 private:
  void run(const Tensor& from, const Tensor& to, bool accumulate) const {
    sweep(stream_, from.physical_count(),
          Multiply<T>{from.as<T>(), to.as<T>(), factor_, accumulate});
  }
  comm::StreamView stream_;
  float factor_;
};

class ScaleOp final : public Op {
 public:
  explicit ScaleOp(float factor) : factor_(factor) {}
  std::string name() const override { return "scale"; }
  std::string attributes() const override { return fmt::format("factor {:g}", factor_); }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    return {inputs[0]};
  }
  PrecisionRule precision() const override { return PrecisionRule::kFollow; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return make_kernel<ScaleKernel>(context.outputs[0].type, context.stream, factor_);
  }

 private:
  float factor_;
};

}  // namespace

Value scale(Graph& graph, Value x, float factor) {
  return graph.add(std::make_shared<ScaleOp>(factor), {x})[0];
}

}  // namespace models
