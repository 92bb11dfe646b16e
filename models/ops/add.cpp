#include "models/ops/add.h"

#include "models/ops/elementwise.h"

namespace models {
namespace {

template <typename T>
struct Sum {
  const T *a, *b;
  T* y;
  template <int N>
  RIDGELINE_HD void operator()(std::int64_t i, comm::Lanes<N> lanes) const {
    const comm::Pack<T, N> left = comm::load(a + i, lanes), right = comm::load(b + i, lanes);
    comm::Pack<float, N> sum;
    comm::each(comm::Lanes<N>{}, [&](int k) { sum[k] = left[k] + right[k]; });
    comm::store(y + i, sum);
  }
};

template <typename T>
class AddKernel final : public Kernel {
 public:
  explicit AddKernel(comm::StreamView stream) : stream_(stream) {}
  void forward(const KernelArgs& args) override {
    const Tensor &a = args.inputs[0], &b = args.inputs[1], &y = args.outputs[0];
    sweep_vectors<T>(stream_, y.physical_count(), Sum<T>{a.as<T>(), b.as<T>(), y.as<T>()},
                     {a.data, b.data, y.data});
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
