// Convolution on a GPU: a vendor's engine for each pass, around it sweeps that any device runs.
// Activations come with all channels last, weights are packed once per update.
#include <algorithm>
#include <utility>

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
  const float* shift;  // (O)
  const T* residual;   // may be null
  T* y;
  bool relu;

  template <int N>
  struct Loaded {
    comm::Pack<T, N> y, residual;
  };
  template <int N>
  RIDGELINE_HD comm::Pack<float, N> of(std::int64_t o, comm::Lanes<N> lanes) const {
    return comm::load(shift + o, lanes);
  }
  template <int N>
  RIDGELINE_HD Loaded<N> load(std::int64_t e, comm::Lanes<N> lanes) const {
    Loaded<N> in;
    in.y = comm::load(y + e, lanes);
    if (residual) in.residual = comm::load(residual + e, lanes);
    return in;
  }
  template <int N>
  RIDGELINE_HD void take(std::int64_t e, const comm::Pack<float, N>& bias, const Loaded<N>& in,
                         comm::Pack<float, N>*) const {
    comm::Pack<float, N> to;
    comm::each(comm::Lanes<N>{}, [&](int k) {
      const float value = in.y[k] + (residual ? float{in.residual[k]} : 0.0f) + bias[k];
      to[k] = relu && !(value > 0.0f) ? 0.0f : value;
    });
    comm::store(y + e, to);
  }
};

// dz = dy [y > 0], which takes the place of dy; the residual's gradient (+)= dz; and the sum of dz.
// y may be null, and is then nowhere below 0; so may the residual's gradient.
template <typename T>
struct Spread {
  const T* y;
  T *dy, *residual;
  bool adds;

  template <int N>
  struct Loaded {
    comm::Pack<T, N> y, dy, residual;
  };
  template <int N>
  RIDGELINE_HD NothingOfChannels of(std::int64_t, comm::Lanes<N>) const {
    return {};
  }
  template <int N>
  RIDGELINE_HD Loaded<N> load(std::int64_t e, comm::Lanes<N> lanes) const {
    Loaded<N> in;
    in.dy = comm::load(dy + e, lanes);
    if (y) in.y = comm::load(y + e, lanes);
    if (adds) in.residual = comm::load(residual + e, lanes);
    return in;
  }
  template <int N>
  RIDGELINE_HD void take(std::int64_t e, NothingOfChannels, const Loaded<N>& in,
                         comm::Pack<float, N>* sums) const {
    comm::Pack<float, N> dz;
    comm::each(comm::Lanes<N>{}, [&](int k) {
      dz[k] = y && !(in.y[k] > 0.0f) ? 0.0f : float{in.dy[k]};
      sums[0][k] += dz[k];
    });
    if (y) comm::store(dy + e, dz);
    if (!residual) return;
    if (adds) {
      comm::each(comm::Lanes<N>{}, [&](int k) { dz[k] = in.residual[k] + dz[k]; });
    }
    comm::store(residual + e, dz);
  }
  // Where nobody wants the sum.
  template <int N>
  RIDGELINE_HD void operator()(std::int64_t e, comm::Lanes<N> lanes) const {
    comm::Pack<float, N> unread = {};
    take(e, NothingOfChannels{}, load(e, lanes), &unread);
  }
};

// dbias (+)= scale sum
struct BiasGradient {
  const float* scale;  // may be null
  Target dbias;
  RIDGELINE_HD void operator()(std::int64_t o, const double* sums) const {
    dbias.give(o, scale ? scale[o] * sums[0] : sums[0]);
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
    channel_sweep<T>(stream_, dy_rows_, Epilogue<T>{shift, residual, y, op_.fused().relu},
                     {shift, residual, y});
  }

  // dz = dy [y > 0];  d residual = dz;  dx = W^T dz;  dW = s (dz x);  db = s sum dz
  void backward(const KernelArgs& args) override {
    const int residual = op_.fused().residual ? op_.residual_input() : 0;
    GradientMode to_x = args.modes[0];
    GradientMode to_residual = residual > 0 ? args.modes[residual] : GradientMode::kNone;
    const bool both =
        to_residual != GradientMode::kNone && args.dinputs[residual].data == args.dinputs[0].data;
    // Modes come in the order of the inputs, but the residual's gradient is there first.
    if (both) to_residual = std::exchange(to_x, GradientMode::kAccumulate);
    spread(args, residual, to_residual);
    if (args.modes[1] != GradientMode::kNone) give_weight_gradient(args);
    if (data_gradient_ && to_x != GradientMode::kNone) give_input_gradient(args, to_x);
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

  // One sweep over dy: dz, from it the gradient of input `residual`, and the bias' gradient.
  void spread(const KernelArgs& args, int residual, GradientMode mode) {
    const T* y = op_.fused().relu ? args.outputs[0].as<T>() : nullptr;
    T* dy = args.doutputs[0].as<T>();
    T* to = mode != GradientMode::kNone ? args.dinputs[residual].as<T>() : nullptr;
    const Spread<T> body{y, dy, to, mode == GradientMode::kAccumulate};
    const int bias = op_.bias_input();
    if (wants_bias_ && args.modes[bias] != GradientMode::kNone) {
      channel_sums<1, T>(stream_, dy_rows_, body, {y, dy, to},
                         BiasGradient{packed_->scale(args.parameter_version),
                                      Target{args.dinputs[bias].f32(), args.modes[bias]}},
                         args.workspace.data() + sums_at_);
    } else if (y || to) {
      sweep_vectors<T>(stream_, y_.physical_count(), body, {y, dy, to});
    }
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

  void give_input_gradient(const KernelArgs& args, GradientMode mode) {
    const bool adds = mode == GradientMode::kAccumulate;
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
      give_gradient(stream_, dx, args.dinputs[0], mode);
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
