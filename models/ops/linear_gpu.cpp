// A linear layer on a GPU: a 1x1 convolution over maps of one element, whose tensors lie in memory
// as the matrices do.
#include <array>

#include "models/ops/conv2d.h"
#include "models/ops/linear.h"

namespace models {
namespace {

// (N, C) as N maps of C channels.
Tensor as_map(Tensor matrix) {
  if (matrix.shape.rank != 2) return matrix;
  matrix.shape = {matrix.shape[0], matrix.shape[1], 1, 1};
  matrix.channel_block = static_cast<int>(matrix.shape[1]);
  return matrix;
}

template <std::size_t kCount>
std::array<Tensor, kCount> as_maps(std::span<const Tensor> matrices) {
  std::array<Tensor, kCount> maps;
  for (std::size_t i = 0; i < matrices.size(); ++i) maps[i] = as_map(matrices[i]);
  return maps;
}

class LinearGpu final : public Kernel {
 public:
  explicit LinearGpu(KernelContext context) {
    for (Tensor& input : context.inputs) input = as_map(input);
    for (Tensor& output : context.outputs) output = as_map(output);
    context.direct_convolution = true;
    conv_ = compile_conv2d_gpu(Conv2dOp({}, {.bias = true}), context);
  }
  std::int64_t workspace_bytes() const override { return conv_->workspace_bytes(); }
  double forward_flops() const override { return conv_->forward_flops(); }
  double backward_flops() const override { return conv_->backward_flops(); }
  std::string implementation() const override { return conv_->implementation(); }

  void forward(const KernelArgs& args) override {
    const auto inputs = as_maps<3>(args.inputs);
    const auto outputs = as_maps<1>(args.outputs);
    KernelArgs maps = args;
    maps.inputs = inputs;
    maps.outputs = outputs;
    conv_->forward(maps);
  }
  void backward(const KernelArgs& args) override {
    const auto inputs = as_maps<3>(args.inputs), dinputs = as_maps<3>(args.dinputs);
    const auto outputs = as_maps<1>(args.outputs), doutputs = as_maps<1>(args.doutputs);
    KernelArgs maps = args;
    maps.inputs = inputs;
    maps.outputs = outputs;
    maps.doutputs = doutputs;
    maps.dinputs = dinputs;
    conv_->backward(maps);
  }

 private:
  std::unique_ptr<Kernel> conv_;
};

}  // namespace

std::unique_ptr<Kernel> compile_linear_gpu(const KernelContext& context) {
  return std::make_unique<LinearGpu>(context);
}

}  // namespace models
