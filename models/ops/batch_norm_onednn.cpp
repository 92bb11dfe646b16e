#include <algorithm>
#include <utility>

#include "models/ops/batch_norm.h"
#include "models/ops/elementwise.h"
#include "models/ops/onednn.h"

namespace models {
namespace {

using dnnl::memory;
using dnnl::normalization_flags;

class BatchNormOneDnn final : public Kernel {
 public:
  BatchNormOneDnn(const BatchNormOp& op, const KernelContext& context)
      : stream_(context.stream), fused_(op.fused()) {
    if (fused_.residual) {
      const Tensor &residual = context.inputs[BatchNormOp::kResidual], &y = context.outputs[0];
      REQUIRE(residual.channel_block == y.channel_block, "residual in blocks of {}, not {}",
              residual.channel_block, y.channel_block);
    }
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
    finish(args);
  }

  // dz = dy [y > 0], which is the residual's gradient, too. From there on oneDNN's formulas are
  // those of the paper: dgamma = sum dz x^, dbeta = sum dz,
  // dx = gamma / sigma (dz - mean(dz) - x^ mean(dz x^))
  void backward(const KernelArgs& args) override {
    GradientMode modes[3] = {args.modes[0], args.modes[1], args.modes[2]};
    const int residual = BatchNormOp::kResidual;
    GradientMode to_residual = fused_.residual ? args.modes[residual] : GradientMode::kNone;
    const bool both =
        to_residual != GradientMode::kNone && args.dinputs[residual].data == args.dinputs[0].data;
    // Modes come in the order of the inputs, but the residual's gradient is there first.
    if (both) to_residual = std::exchange(modes[0], GradientMode::kAccumulate);
    spread(args, to_residual);
    std::byte* space = args.workspace.data();
    Tensor dx = args.dinputs[0], dgamma = args.dinputs[1], dbeta = args.dinputs[2];
    const auto target = [&](int i, Tensor& tensor, std::int64_t bytes) {
      if (modes[i] != GradientMode::kOverwrite) tensor.data = space;
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
      if (modes[i] == GradientMode::kAccumulate) {
        give_gradient(stream_, *written[i], args.dinputs[i], modes[i]);
      }
    }
  }

 private:
  // y = relu(y + residual)
  void finish(const KernelArgs& args) const {
    const Tensor& y = args.outputs[0];
    float* const to = y.f32();
    const float* const residual =
        fused_.residual ? args.inputs[BatchNormOp::kResidual].f32() : nullptr;
    const bool relu = fused_.relu;
    if (!residual && !relu) return;
    const auto body = [=](std::int64_t begin, std::int64_t end) {
      if (residual) {
        for (std::int64_t i = begin; i < end; ++i) to[i] += residual[i];
      }
      if (relu) {
        for (std::int64_t i = begin; i < end; ++i) to[i] = to[i] > 0.0f ? to[i] : 0.0f;
      }
    };
    sweep(stream_, y.physical_count(), body);
  }

  // One sweep over dy: dz, and from it the residual's gradient.
  void spread(const KernelArgs& args, GradientMode mode) const {
    const Tensor& dy = args.doutputs[0];
    float* const dz = dy.f32();
    const float* const y = fused_.relu ? args.outputs[0].f32() : nullptr;
    float* const to =
        mode != GradientMode::kNone ? args.dinputs[BatchNormOp::kResidual].f32() : nullptr;
    if (!y && !to) return;
    const bool adds = mode == GradientMode::kAccumulate;
    const auto body = [=](std::int64_t begin, std::int64_t end) {
      if (y) {
        for (std::int64_t i = begin; i < end; ++i) dz[i] = y[i] > 0.0f ? dz[i] : 0.0f;
      }
      if (to && !adds) std::copy(dz + begin, dz + end, to + begin);
      if (to && adds) {
        for (std::int64_t i = begin; i < end; ++i) to[i] += dz[i];
      }
    };
    sweep(stream_, dy.physical_count(), body);
  }

  std::int64_t padded_channel_bytes() const { return (num_channels_ * 4 + 63) / 64 * 64; }

  comm::StreamView stream_;
  BatchNormOp::Fused fused_;
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
