// Convolution on a GPU: a vendor's engine for each pass, around it sweeps that any device runs.
// Activations come with all channels last, weights are packed once per update.
#include <algorithm>

#include "models/graph/reorder.h"
#include "models/ops/channel_sums.h"
#include "models/ops/conv2d.h"
#include "models/ops/conv_engine.h"
#include "models/ops/elementwise.h"
#include "models/ops/packed_weights.h"

namespace models {
namespace {

// y = relu(y + shift + residual), for an engine that has no epilogue
template <typename T>
struct Epilogue {
  ChannelRows rows;
  const float* shift;
  const T* residual;  // may be null
  T* y;
  bool relu;
  RIDGELINE_HD void operator()(std::int64_t piece) const {
    const float b = shift[rows.channel(piece)];
    rows.visit(piece, [&](std::int64_t e) {
      const float value = y[e] + (residual ? float{residual[e]} : 0.0f) + b;
      y[e] = relu && !(value > 0.0f) ? 0.0f : value;
    });
  }
};

// dy = dy [y > 0], where y is given, and its sum
template <typename T>
struct MaskedSum {
  const T* y;
  T* dy;
  RIDGELINE_HD void operator()(std::int64_t e, std::int64_t, double* sums) const {
    if (y && !(y[e] > 0.0f)) dy[e] = 0.0f;
    sums[0] += dy[e];
  }
};

template <typename T>
struct Mask {
  const T* y;
  T* dy;
  RIDGELINE_HD void operator()(std::int64_t e) const {
    if (!(y[e] > 0.0f)) dy[e] = 0.0f;
  }
};

// dbias (+)= scale sum
struct BiasGradient {
  const double* sums;
  const float* scale;  // may be null
  Target dbias;
  RIDGELINE_HD void operator()(std::int64_t o) const {
    dbias.give(o, scale ? scale[o] * sums[o] : sums[o]);
  }
};

// T: what y, its gradient and the engines' weights are stored as.
template <typename T>
class Conv2dGpu final : public Kernel {
 public:
  Conv2dGpu(const Conv2dOp& op, const KernelContext& context)
      : op_(op),
        stream_(context.stream),
        x_(context.inputs[0]),
        y_(context.outputs[0]),
        weight_(context.inputs[1].shape),
        dy_rows_(context.outputs[0]) {
    choose_order();
    packed_ = packed_weights(context, op_.weights(context.inputs), order_);
    if (op_.fused().residual) {
      const Tensor& residual = context.inputs[op_.residual_input()];
      REQUIRE(residual.channel_block == y_.channel_block && residual.type == y_.type,
              "residual in blocks of {}, not {}", residual.channel_block, y_.channel_block);
    }
    find_engines(context);
    reserve_workspace(context);
  }

  std::int64_t workspace_bytes() const override { return workspace_bytes_; }
  double forward_flops() const override {
    return 2.0 * static_cast<double>(y_.shape.count() * weight_[1] * weight_[2] * weight_[3]);
  }
  double backward_flops() const override {
    return forward_flops() * ((data_gradient_ ? 1 : 0) + (filter_gradient_ ? 1 : 0));
  }
  std::string implementation() const override {
    std::string text = "fwd " + forward_->name();
    if (needs_shift() && !fused_) text += " with own epilogue";
    if (data_gradient_) text += ", bwd-data " + data_gradient_->name();
    if (filter_gradient_) text += ", bwd-weights " + filter_gradient_->name();
    return text;
  }

  void forward(const KernelArgs& args) override {
    const std::int64_t version = args.parameter_version;
    const T* residual = op_.fused().residual ? args.inputs[op_.residual_input()].as<T>() : nullptr;
    T* y = args.outputs[0].as<T>();
    const void* bias = fused_ ? packed_->engine_shift(version) : nullptr;
    forward_->run({ordered_x(args), packed_->weight(version), y, bias, residual}, args.workspace);
    if (!needs_shift() || fused_) return;
    const float* shift = packed_->shift(version);
    comm::parallel_for(stream_, dy_rows_.count(),
                       Epilogue<T>{dy_rows_, shift, residual, y, op_.fused().relu}, 64);
  }

  // dz = dy [y > 0];  d residual = dz;  dx = W^T dz;  dW = s (dz x);  db = s sum dz
  void backward(const KernelArgs& args) override {
    mask_and_sum(args);
    if (args.modes[1] != GradientMode::kNone) give_weight_gradient(args);
    if (data_gradient_ && args.modes[0] != GradientMode::kNone) give_input_gradient(args);
    if (op_.fused().residual) {  // inputs in order: x may be the residual
      const int i = op_.residual_input();
      give_gradient(stream_, args.doutputs[0], args.dinputs[i], args.modes[i]);
    }
  }

 private:
  bool needs_shift() const {
    const Conv2dOp::Fused& fused = op_.fused();
    return fused.bias || fused.norm || fused.residual || fused.relu;
  }

  // One channel lies in either order; then x decides. An image may come in another type.
  void choose_order() {
    const std::int64_t outputs = y_.shape[1], inputs = x_.shape[1];
    REQUIRE(y_.channel_block == 1 || y_.channel_block == outputs, "blocks of {} in {} channels",
            y_.channel_block, outputs);
    order_.channels_last =
        y_.channel_block == outputs && (outputs > 1 || x_.channel_block == inputs);
    order_.type = y_.type;
    ordered_x_ = x_;
    ordered_x_.type = order_.type;
    ordered_x_.channel_block = order_.channels_last ? static_cast<int>(inputs) : 1;
    reorders_x_ = x_.channel_block != ordered_x_.channel_block || x_.type != ordered_x_.type;
  }

  void find_engines(const KernelContext& context) {
    ConvRequest request{ConvPass::kForward, x_.shape, weight_, y_.shape};
    request.stride = op_.conv().stride;
    request.padding = op_.conv().padding;
    request.dilation = op_.conv().dilation;
    request.type = order_.type;
    request.channels_last = order_.channels_last;
    request.direct = context.direct_convolution;
    ConvRequest fused = request;
    fused.epilogue = needs_shift();
    fused.residual = op_.fused().residual;
    fused.relu = op_.fused().relu;
    forward_ = conv_engine(context, fused);
    fused_ = needs_shift() && forward_;
    if (!forward_) forward_ = conv_engine(context, request);
    if (!context.training) return;
    wants_bias_ = op_.fused().bias && context.wants_gradient[op_.bias_input()];
    request.pass = ConvPass::kDataGradient;
    if (context.wants_gradient[0]) data_gradient_ = conv_engine(context, request);
    request.pass = ConvPass::kFilterGradient;
    if (context.wants_gradient[1]) filter_gradient_ = conv_engine(context, request);
  }

  void reserve_workspace(const KernelContext& context) {
    const auto reserve = [&](std::int64_t bytes) {
      const std::int64_t at = workspace_bytes_;
      workspace_bytes_ += comm::num_blocks(bytes, kAlign) * kAlign;
      return at;
    };
    for (const auto& engine : {forward_, data_gradient_, filter_gradient_}) {
      if (engine) scratch_bytes_ = std::max(scratch_bytes_, engine->workspace_bytes());
    }
    reserve(scratch_bytes_);
    const std::int64_t x_bytes = ordered_x_.physical_bytes();
    if (reorders_x_) x_at_ = reserve(x_bytes);
    if (data_gradient_) dx_at_ = reserve(x_bytes);
    if (filter_gradient_) dweight_at_ = reserve(weight_.count() * 4);
    if (context.training && wants_bias_) sums_at_ = reserve(channel_sums_bytes(dy_rows_, 1));
  }

  void* ordered_x(const KernelArgs& args) {
    if (!reorders_x_) return args.inputs[0].data;
    ordered_x_.data = args.workspace.data() + x_at_;
    reorder(stream_, args.inputs[0], ordered_x_, false);
    return ordered_x_.data;
  }

  void mask_and_sum(const KernelArgs& args) {
    const T* y = op_.fused().relu ? args.outputs[0].as<T>() : nullptr;
    T* dy = args.doutputs[0].as<T>();
    const int bias = op_.bias_input();
    if (!wants_bias_ || args.modes[bias] == GradientMode::kNone) {
      if (y) comm::parallel_for(stream_, y_.shape.count(), Mask<T>{y, dy});
      return;
    }
    const double* sums =
        channel_sums<1>(stream_, dy_rows_, MaskedSum<T>{y, dy}, args.workspace.data() + sums_at_);
    comm::parallel_for(stream_, dy_rows_.channels,
                       BiasGradient{sums, packed_->scale(args.parameter_version),
                                    Target{args.dinputs[bias].f32(), args.modes[bias]}});
  }

  void give_weight_gradient(const KernelArgs& args) {
    const Tensor& gradient = args.dinputs[1];
    const float* scale = packed_->scale(args.parameter_version);
    const bool direct =
        !scale && args.modes[1] == GradientMode::kOverwrite && packs_in_place(weight_, order_);
    std::byte* dweight = direct ? gradient.data : args.workspace.data() + dweight_at_;
    filter_gradient_->run({ordered_x(args), dweight, args.doutputs[0].data}, args.workspace);
    if (direct) return;
    give_packed_gradient(stream_, dweight, order_, scale, gradient, args.modes[1]);
  }

  void give_input_gradient(const KernelArgs& args) {
    const bool adds = args.modes[0] == GradientMode::kAccumulate;
    Tensor dx = args.dinputs[0];
    if (adds || reorders_x_) {
      dx = ordered_x_;
      dx.data = args.workspace.data() + dx_at_;
    }
    data_gradient_->run({dx.data, packed_->weight(args.parameter_version), args.doutputs[0].data},
                        args.workspace);
    if (reorders_x_) {
      reorder(stream_, dx, args.dinputs[0], adds);
    } else if (adds) {
      give_gradient(stream_, dx, args.dinputs[0], args.modes[0]);
    }
  }

  static constexpr std::int64_t kAlign = 64;

  Conv2dOp op_;
  comm::StreamView stream_;
  Tensor x_, y_;      // extents and order
  Tensor ordered_x_;  // x as the engines read it
  Shape weight_;
  ChannelRows dy_rows_;
  PackedOrder order_;
  bool reorders_x_ = false, fused_ = false, wants_bias_ = false;
  std::shared_ptr<PackedWeights> packed_;
  std::shared_ptr<ConvEngine> forward_, data_gradient_, filter_gradient_;
  std::int64_t workspace_bytes_ = 0, scratch_bytes_ = 0;
  std::int64_t x_at_ = 0, dx_at_ = 0, dweight_at_ = 0, sums_at_ = 0;
};

}  // namespace

std::unique_ptr<Kernel> compile_conv2d_gpu(const Conv2dOp& op, const KernelContext& context) {
  return make_kernel<Conv2dGpu>(context.outputs[0].type, op, context);
}

}  // namespace models
