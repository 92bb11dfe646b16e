#include "models/ops/flatten.h"

#include "models/graph/reorder.h"
#include "models/ops/elementwise.h"

namespace models {
namespace {

class FlattenKernel final : public Kernel {
 public:
  explicit FlattenKernel(comm::StreamView stream) : stream_(stream) {}

  void forward(const KernelArgs& args) override {
    const Tensor& x = args.inputs[0];
    reorder(stream_, x, {args.outputs[0].data, Type::kF32, x.shape}, false);
  }
  // dx (+)= dy
  void backward(const KernelArgs& args) override {
    const Tensor& dx = args.dinputs[0];
    reorder(stream_, {args.doutputs[0].data, Type::kF32, dx.shape}, dx,
            args.modes[0] == GradientMode::kAccumulate);
  }

 private:
  comm::StreamView stream_;
};

class FlattenOp final : public Op {
 public:
  std::string name() const override { return "flatten"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    const Shape& x = inputs[0].shape;
    REQUIRE(x.rank == 4, "flatten of {}", to_string(x));
    return {{Type::kF32, {x[0], x.count() / x[0]}}};
  }
  LayoutRule layout() const override { return LayoutRule::kAny; }
  PrecisionRule precision() const override { return PrecisionRule::kReads; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return std::make_unique<FlattenKernel>(context.stream);
  }
};

class AsMapKernel final : public Kernel {
 public:
  explicit AsMapKernel(comm::StreamView stream) : stream_(stream) {}

  void forward(const KernelArgs& args) override {
    give_gradient(stream_, args.inputs[0], args.outputs[0], GradientMode::kOverwrite);
  }
  void backward(const KernelArgs& args) override {
    give_gradient(stream_, args.doutputs[0], args.dinputs[0], args.modes[0]);
  }

 private:
  comm::StreamView stream_;
};

class AsMapOp final : public Op {
 public:
  std::string name() const override { return "as_map"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    const Shape& x = inputs[0].shape;
    REQUIRE(x.rank == 2, "as_map of {}", to_string(x));
    return {{Type::kF32, {x[0], x[1], 1, 1}}};
  }
  LayoutRule layout() const override { return LayoutRule::kPlain; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return std::make_unique<AsMapKernel>(context.stream);
  }
};

}  // namespace

Value flatten(Graph& graph, Value x) { return graph.add(std::make_shared<FlattenOp>(), {x})[0]; }

Value as_map(Graph& graph, Value x) { return graph.add(std::make_shared<AsMapOp>(), {x})[0]; }

}  // namespace models
