#include "models/ops/add.h"

#include "models/ops/elementwise.h"

namespace models {
namespace {

template <typename T>
struct Sum {
  const T *a, *b;
  T* y;
  RIDGELINE_HD void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t i = begin; i < end; ++i) y[i] = a[i] + b[i];
  }
};

template <typename T>
class AddKernel final : public Kernel {
 public:
  explicit AddKernel(comm::StreamView stream) : stream_(stream) {}
  void forward(const KernelArgs& args) override {
    const Tensor& y = args.outputs[0];
    sweep(stream_, y.physical_count(),
          Sum<T>{args.inputs[0].as<T>(), args.inputs[1].as<T>(), y.as<T>()});
  }
  // da = dy, db = dy
  void backward(const KernelArgs& args) override {
    for (int i : {0, 1}) give_gradient(stream_, args.doutputs[0], args.dinputs[i], args.modes[i]);
  }

 private:
  comm::StreamView stream_;
};

}  // namespace

Value add(Graph& graph, Value a, Value b) {
  return graph.add(std::make_shared<AddOp>(), {a, b})[0];
}

std::vector<ValueSpec> AddOp::infer(std::span<const ValueSpec> inputs) const {
  REQUIRE(inputs[0] == inputs[1], "add of {} and {}", to_string(inputs[0].shape),
          to_string(inputs[1].shape));
  return {inputs[0]};
}

std::unique_ptr<Kernel> AddOp::compile(const KernelContext& context) const {
  return make_kernel<AddKernel>(context.outputs[0].type, context.stream);
}

}  // namespace models
