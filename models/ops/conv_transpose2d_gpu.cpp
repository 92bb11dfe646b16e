// Transposed convolution on a GPU: the passes of a convolution with x and y in each other's place,
// its forward pass being that convolution's data gradient. Tensors and weights stay plain.
#include <algorithm>

#include "comm/parallel.h"
#include "models/ops/conv_engine.h"
#include "models/ops/conv_transpose2d.h"
#include "models/ops/elementwise.h"

namespace models {
namespace {

class ConvTransposeGpu final : public Kernel {
 public:
  ConvTransposeGpu(const ConvTransposeAttributes& attributes, const KernelContext& context)
      : stream_(context.stream), weight_(context.inputs[1].shape), x_(context.inputs[0].shape) {
    ConvRequest request{ConvPass::kDataGradient, context.outputs[0].shape, weight_, x_};
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
    for (const auto& engine : {forward_, data_gradient_, weight_gradient_}) {
      if (engine) scratch_bytes_ = std::max(scratch_bytes_, engine->workspace_bytes());
    }
    scratch_bytes_ = comm::num_blocks(scratch_bytes_, 64) * 64;
  }

  std::int64_t workspace_bytes() const override {
    return scratch_bytes_ +
           4 * std::max(data_gradient_ ? x_.count() : 0, weight_gradient_ ? weight_.count() : 0);
  }
  double forward_flops() const override {
    return 2.0 * static_cast<double>(x_.count() * weight_[1] * weight_[2] * weight_[3]);
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
    forward_->run({args.outputs[0].f32(), args.inputs[1].f32(), args.inputs[0].f32()},
                  args.workspace);
  }
  void backward(const KernelArgs& args) override {
    float* dy = args.doutputs[0].f32();
    give(args, 0, [&](float* dx) {
      data_gradient_->run({dy, args.inputs[1].f32(), dx}, args.workspace);
    });
    give(args, 1, [&](float* dweight) {
      weight_gradient_->run({dy, dweight, args.inputs[0].f32()}, args.workspace);
    });
  }

 private:
  // write(gradient i), or an addition of what it writes.
  template <typename Write>
  void give(const KernelArgs& args, int i, const Write& write) {
    Tensor gradient = args.dinputs[i];
    if (args.modes[i] == GradientMode::kNone) return;
    if (args.modes[i] == GradientMode::kOverwrite) return write(gradient.f32());
    gradient.data = args.workspace.data() + scratch_bytes_;
    write(gradient.f32());
    give_gradient(stream_, gradient, args.dinputs[i], args.modes[i]);
  }

  comm::StreamView stream_;
  Shape weight_, x_;
  std::shared_ptr<ConvEngine> forward_, data_gradient_, weight_gradient_;
  std::int64_t scratch_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Kernel> compile_conv_transpose2d_gpu(const ConvTransposeAttributes& attributes,
                                                     const KernelContext& context) {
  return std::make_unique<ConvTransposeGpu>(attributes, context);
}

}  // namespace models
