#include <algorithm>

#include "models/ops/batch_norm.h"
#include "models/ops/elementwise.h"
#include "models/ops/onednn.h"

namespace models {
namespace {

using dnnl::memory;
using dnnl::normalization_flags;

class BatchNormOneDnn final : public Kernel {
 public:
  BatchNormOneDnn(const BatchNormOp& op, const KernelContext& context) : stream_(context.stream) {
    const auto engine = onednn::engine(context);
    const Shape& shape = context.inputs[0].shape;
    const memory::desc x = onednn::describe(context.inputs[0]);
    const memory::desc channels({shape[1]}, memory::data_type::f32, memory::format_tag::a);
    const auto flags = normalization_flags::use_scale | normalization_flags::use_shift;
    const auto forward = onednn::check("batch_norm", [&] {
      return dnnl::batch_normalization_forward::primitive_desc(
          {dnnl::prop_kind::forward_training, x, op.eps(), flags}, engine->engine);
    });
    forward_ = onednn::Call(engine, dnnl::batch_normalization_forward(forward));
    forward_.bind(DNNL_ARG_SRC, x);
    forward_.bind(DNNL_ARG_DST, x);
    for (int argument : {DNNL_ARG_SCALE, DNNL_ARG_SHIFT, DNNL_ARG_MEAN, DNNL_ARG_VARIANCE}) {
      forward_.bind(argument, channels);
    }
    num_channels_ = shape[1];
    const double count = static_cast<double>(shape[0] * shape[2] * shape[3]);
    // One value has no unbiased variance; PyTorch refuses it, here it counts as its biased one (0).
    unbiased_ = count > 1 ? static_cast<float>(count / (count - 1)) : 1.0f;
    if (!context.training) return;
    const auto backward = onednn::check("batch_norm backward", [&] {
      return dnnl::batch_normalization_backward::primitive_desc(
          {dnnl::prop_kind::backward, x, x, op.eps(), flags}, engine->engine, forward);
    });
    backward_ = onednn::Call(engine, dnnl::batch_normalization_backward(backward));
    for (int argument : {DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_SRC}) {
      backward_.bind(argument, x);
    }
    for (int argument : {DNNL_ARG_SCALE, DNNL_ARG_SHIFT, DNNL_ARG_MEAN, DNNL_ARG_VARIANCE,
                         DNNL_ARG_DIFF_SCALE, DNNL_ARG_DIFF_SHIFT}) {
      backward_.bind(argument, channels);
    }
    dx_bytes_ = static_cast<std::int64_t>(x.get_size());
  }

  std::int64_t workspace_bytes() const override { return dx_bytes_ + 2 * padded_channel_bytes(); }

  void forward(const KernelArgs& args) override {
    forward_.set(DNNL_ARG_SRC, args.inputs[0].data);
    forward_.set(DNNL_ARG_SCALE, args.inputs[1].data);
    forward_.set(DNNL_ARG_SHIFT, args.inputs[2].data);
    forward_.set(DNNL_ARG_DST, args.outputs[0].data);
    forward_.set(DNNL_ARG_MEAN, args.outputs[1].data);
    forward_.set(DNNL_ARG_VARIANCE, args.outputs[2].data);
    forward_.run();
    const float* variance = args.outputs[2].f32();
    float* unbiased = args.outputs[3].f32();
    for (std::int64_t c = 0; c < num_channels_; ++c) unbiased[c] = variance[c] * unbiased_;
  }

  // oneDNN's formulas are those of the paper: dgamma = sum dy x^, dbeta = sum dy,
  // dx = gamma / sigma (dy - mean(dy) - x^ mean(dy x^))
  void backward(const KernelArgs& args) override {
    std::byte* space = args.workspace.data();
    Tensor dx = args.dinputs[0], dgamma = args.dinputs[1], dbeta = args.dinputs[2];
    const auto target = [&](int i, Tensor& tensor, std::int64_t bytes) {
      if (args.modes[i] != GradientMode::kOverwrite) tensor.data = space;
      space += bytes;
    };
    target(0, dx, dx_bytes_);
    target(1, dgamma, padded_channel_bytes());
    target(2, dbeta, padded_channel_bytes());
    backward_.set(DNNL_ARG_SRC, args.inputs[0].data);
    backward_.set(DNNL_ARG_SCALE, args.inputs[1].data);
    backward_.set(DNNL_ARG_SHIFT, args.inputs[1].data);  // oneDNN 2.6 demands it, unread
    backward_.set(DNNL_ARG_MEAN, args.outputs[1].data);
    backward_.set(DNNL_ARG_VARIANCE, args.outputs[2].data);
    backward_.set(DNNL_ARG_DIFF_DST, args.doutputs[0].data);
    backward_.set(DNNL_ARG_DIFF_SRC, dx.data);
    backward_.set(DNNL_ARG_DIFF_SCALE, dgamma.data);
    backward_.set(DNNL_ARG_DIFF_SHIFT, dbeta.data);
    backward_.run();
    const Tensor* written[] = {&dx, &dgamma, &dbeta};
    for (int i = 0; i < 3; ++i) {
      if (args.modes[i] == GradientMode::kAccumulate) {
        give_gradient(stream_, *written[i], args.dinputs[i], args.modes[i]);
      }
    }
  }

 private:
  std::int64_t padded_channel_bytes() const { return (num_channels_ * 4 + 63) / 64 * 64; }

  comm::StreamView stream_;
  std::int64_t num_channels_ = 0, dx_bytes_ = 0;
  float unbiased_ = 1.0f;
  onednn::Call forward_, backward_;
};

}  // namespace

std::unique_ptr<Kernel> compile_batch_norm_onednn(const BatchNormOp& op,
                                                  const KernelContext& context) {
  return std::make_unique<BatchNormOneDnn>(op, context);
}

}  // namespace models
