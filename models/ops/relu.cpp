#include "models/ops/relu.h"

#include "models/ops/elementwise.h"

namespace models {
namespace {

struct Forward {
  const float* x;
  float* y;
  RIDGELINE_HD void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t i = begin; i < end; ++i) y[i] = x[i] > 0.0f ? x[i] : 0.0f;
  }
};

// dx (+)= dy [y > 0]
struct Backward {
  const float *y, *dy;
  float* dx;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t i = begin; i < end; ++i) {
      const float g = y[i] > 0.0f ? dy[i] : 0.0f;
      dx[i] = accumulate ? dx[i] + g : g;
    }
  }
};

class ReluKernel final : public Kernel {
 public:
  explicit ReluKernel(comm::StreamView stream) : stream_(stream) {}
  void forward(const KernelArgs& args) override {
    comm::parallel_for_blocks(stream_, args.outputs[0].physical_count(), kSweep,
                              Forward{args.inputs[0].f32(), args.outputs[0].f32()});
  }
  void backward(const KernelArgs& args) override {
    comm::parallel_for_blocks(stream_, args.outputs[0].physical_count(), kSweep,
                              Backward{args.outputs[0].f32(), args.doutputs[0].f32(),
                                       args.dinputs[0].f32(),
                                       args.modes[0] == GradientMode::kAccumulate});
  }

 private:
  comm::StreamView stream_;
};

}  // namespace

Value relu(Graph& graph, Value x) { return graph.add(std::make_shared<ReluOp>(), {x})[0]; }

std::unique_ptr<Kernel> ReluOp::compile(const KernelContext& context) const {
  return std::make_unique<ReluKernel>(context.stream);
}

}  // namespace models
