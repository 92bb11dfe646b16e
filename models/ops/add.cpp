#include "models/ops/add.h"

#include "models/ops/elementwise.h"

namespace models {
namespace {

struct Sum {
  const float *a, *b;
  float* y;
  RIDGELINE_HD void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t i = begin; i < end; ++i) y[i] = a[i] + b[i];
  }
};

class AddKernel final : public Kernel {
 public:
  explicit AddKernel(comm::StreamView stream) : stream_(stream) {}
  void forward(const KernelArgs& args) override {
    comm::parallel_for_blocks(
        stream_, args.outputs[0].physical_count(), kSweep,
        Sum{args.inputs[0].f32(), args.inputs[1].f32(), args.outputs[0].f32()});
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
  return std::make_unique<AddKernel>(context.stream);
}

}  // namespace models
