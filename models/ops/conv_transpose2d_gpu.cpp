// Transposed convolution on a GPU: the engines of a convolution with x and y in each other's place,
// its forward pass being that convolution's data gradient. Tensors and weights stay plain.
#include <algorithm>

#include "comm/parallel.h"
#include "models/ops/conv_engine.h"
#include "models/ops/conv_transpose2d.h"
#include "models/ops/elementwise.h"
#include "models/ops/packed_weights.h"

namespace models {
namespace {

class ConvTransposeGpu final : public Kernel {
 public:
  ConvTransposeGpu(const ConvTransposeAttributes& attributes, const KernelContext& context)
      : stream_(context.stream), weight_(context.inputs[1].shape), x_(context.inputs[0]) {
    REQUIRE(x_.type == context.outputs[0].type, "{} to {}", to_string(x_.type),
            to_string(context.outputs[0].type));
    order_ = {.channels_last = false, .type = x_.type};
    packed_ = packed_weights(context, WeightSource{context.inputs[1]}, order_);
    find_engines(attributes, context);
    for (const auto& engine : {forward_, data_gradient_, weight_gradient_}) {
      if (engine) scratch_bytes_ = std::max(scratch_bytes_, engine->workspace_bytes());
    }
    scratch_bytes_ = comm::num_blocks(scratch_bytes_, 64) * 64;
  }

  std::int64_t workspace_bytes() const override {
    return scratch_bytes_ + std::max(data_gradient_ ? x_.physical_bytes() : 0,
                                     weight_gradient_ ? weight_.count() * 4 : 0);
  }
  double forward_flops() const override {
    return 2.0 * static_cast<double>(x_.shape.count() * weight_[1] * weight_[2] * weight_[3]);
  }
  double backward_flops() const override {
    return forward_flops() * ((data_gradient_ ? 1 : 0) + (weight_gradient_ ? 1 : 0));
  }
  std::string implementation() const override {
    std::string text = "fwd " + forward_->name();
    if (data_gradient_) text += ", bwd-data " + data_gradient_->name();
    if (weight_gradient_) text += ", bwd-weights " + weight_gradient_->name();
    return text;
  }

  void forward(const KernelArgs& args) override {
    void* weight = packed_->weight(args.parameter_version);
    forward_->run({args.outputs[0].data, weight, args.inputs[0].data}, args.workspace);
  }
  void backward(const KernelArgs& args) override {
    give_input_gradient(args);
    give_weight_gradient(args);
  }

 private:
  void find_engines(const ConvTransposeAttributes& attributes, const KernelContext& context) {
    ConvRequest request{ConvPass::kDataGradient, context.outputs[0].shape, weight_, x_.shape};
    request.type = x_.type;
    request.stride = attributes.stride;
    request.padding = attributes.padding;
    request.channels_last = false;
    request.direct = context.direct_convolution;
    forward_ = conv_engine(context, request);
    if (context.training && context.wants_gradient[0]) {
      request.pass = ConvPass::kForward;
      data_gradient_ = conv_engine(context, request);
    }
    if (context.training && context.wants_gradient[1]) {
      request.pass = ConvPass::kFilterGradient;
      weight_gradient_ = conv_engine(context, request);
    }
  }

  void give_input_gradient(const KernelArgs& args) {
    if (args.modes[0] == GradientMode::kNone) return;
    Tensor dx = args.dinputs[0];
    const bool adds = args.modes[0] == GradientMode::kAccumulate;
    if (adds) dx.data = args.workspace.data() + scratch_bytes_;
    data_gradient_->run({args.doutputs[0].data, packed_->weight(args.parameter_version), dx.data},
                        args.workspace);
    if (adds) give_gradient(stream_, dx, args.dinputs[0], args.modes[0]);
  }

  void give_weight_gradient(const KernelArgs& args) {
    if (args.modes[1] == GradientMode::kNone) return;
    const bool direct =
        args.modes[1] == GradientMode::kOverwrite && packs_in_place(weight_, order_);
    std::byte* dweight = direct ? args.dinputs[1].data : args.workspace.data() + scratch_bytes_;
    weight_gradient_->run({args.doutputs[0].data, dweight, args.inputs[0].data}, args.workspace);
    if (direct) return;
    give_packed_gradient(stream_, dweight, order_, nullptr, args.dinputs[1], args.modes[1]);
  }

  comm::StreamView stream_;
  Shape weight_;
  Tensor x_;  // extents and type
  PackedOrder order_;
  std::shared_ptr<PackedWeights> packed_;
  std::shared_ptr<ConvEngine> forward_, data_gradient_, weight_gradient_;
  std::int64_t scratch_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Kernel> compile_conv_transpose2d_gpu(const ConvTransposeAttributes& attributes,
                                                     const KernelContext& context) {
  return std::make_unique<ConvTransposeGpu>(attributes, context);
}

}  // namespace models
