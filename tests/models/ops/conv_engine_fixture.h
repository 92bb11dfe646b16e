#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/ops/conv2d.h"
#include "models/ops/conv_engine.h"

// Kernels of a GPU on the host: their sweeps are bodies for any device, and plain loops stand for
// the vendor's engines.
namespace models::testing {

// Engines by plain loops in double. They spoil their workspace, so that a kernel that keeps
// something there is seen. Without epilogues `find` answers such requests with null.
std::shared_ptr<ConvLibrary> reference_library(bool epilogues);

// `op`, compiled by `compile` with the library as the device's.
class OnGpu final : public Op {
 public:
  using Compile = std::function<std::unique_ptr<Kernel>(const KernelContext&)>;
  OnGpu(std::shared_ptr<const Op> op, std::shared_ptr<ConvLibrary> library, Compile compile)
      : op_(std::move(op)), library_(std::move(library)), compile_(std::move(compile)) {}

  std::string name() const override { return op_->name(); }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    return op_->infer(inputs);
  }
  Saved saved() const override { return op_->saved(); }
  bool differentiable(int input) const override { return op_->differentiable(input); }
  LayoutRule layout() const override { return op_->layout(); }
  PrecisionRule precision() const override { return op_->precision(); }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    context.engines->get<ConvLibrary>(kConvLibrary, [&] { return library_; });
    return compile_(context);
  }

 private:
  std::shared_ptr<const Op> op_;
  std::shared_ptr<ConvLibrary> library_;
  Compile compile_;
};

// An input of a convolution under test; values reach from `low` to 1.
struct ConvOperand {
  std::string name;
  Shape shape;
  bool parameter = true;
  float low = -1.0f;
};
// All that the op takes, in order.
std::vector<ConvOperand> conv_operands(const Conv2dOp& op, const Shape& x, const Shape& w);

}  // namespace models::testing
