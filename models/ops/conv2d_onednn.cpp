// Convolution on the CPU by oneDNN: blocked activations; bias, norm, residual and ReLU as
// post-ops; Winograd F(4x4, 3x3) by a fixed rule. Weights and their gradients are read and written
// where the parameters lie, in tiles (weight_tiles.h); what another order asks for, or Winograd
// with a norm to fold in, is arranged once per update.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "comm/parallel.h"
#include "models/ops/conv2d_onednn.h"
#include "models/ops/prepared_weights.h"

namespace models {
namespace {

using dnnl::memory;
using dnnl::prop_kind;

class Conv2dOneDnn final : public Kernel {
 public:
  Conv2dOneDnn(const Conv2dOp& op, const KernelContext& context)
      : op_(op), stream_(context.stream), engine_(onednn::engine(context)) {
    describe(context);
    make_forward(context);
    if (!context.training) return;
    wants_weight_ = context.wants_gradient[1];
    wants_bias_ = op_.fused().bias && context.wants_gradient[op_.bias_input()];
    if (context.wants_gradient[0]) make_backward_data(context);
    if (wants_weight_ || wants_bias_) make_backward_weights();
  }

  std::int64_t workspace_bytes() const override {
    const std::int64_t dw_bytes = static_cast<std::int64_t>(dw_ordered_.get_size()) + bias_bytes_;
    const std::int64_t w_bytes = backward_data_weights_ ? backward_data_weights_->room_bytes() : 0;
    return scratch_bytes_ + std::max(dw_bytes, dx_bytes_ + w_bytes) + 3 * kAlign;
  }
  double forward_flops() const override { return flops_; }
  double backward_flops() const override {
    return flops_ * ((backward_data_ ? 1 : 0) + (backward_weights_ ? 1 : 0));
  }
  std::string implementation() const override { return implementation_; }

  void forward(const KernelArgs& args) override {
    if (op_.fused().residual) {
      const Tensor& residual = args.inputs[op_.residual_input()];
      if (adds_operand_) {
        forward_.set(operand_, residual.data);
      } else {
        copy(residual.f32(), args.outputs[0].f32(), residual.physical_count());
      }
    }
    forward_.set(DNNL_ARG_SRC, args.inputs[0].data);
    forward_.set(DNNL_ARG_WEIGHTS, forward_weights_->get(args.parameter_version));
    if (scales_output_) {
      forward_.set(operand(0), folded_->scale(args.parameter_version));
      forward_.set(operand(1), folded_->shift(args.parameter_version));
    } else if (has_shift()) {
      forward_.set(DNNL_ARG_BIAS, folded_->shift(args.parameter_version));
    }
    forward_.set(DNNL_ARG_DST, args.outputs[0].data);
    forward_.set(DNNL_ARG_SCRATCHPAD, args.workspace.data());
    forward_.run();
  }

  // dz = dy * [y > 0];  d residual = dz;  dv = s * dz;  dx = W^T dv;  dW = dv x;  db = sum dv
  void backward(const KernelArgs& args) override {
    const int residual = op_.fused().residual ? op_.residual_input() : 0;
    GradientMode to_x = args.modes[0];
    GradientMode to_residual = residual > 0 ? args.modes[residual] : GradientMode::kNone;
    const bool both =
        to_residual != GradientMode::kNone && args.dinputs[residual].data == args.dinputs[0].data;
    // Modes come in the order of the inputs, but the residual's gradient is there first.
    if (both) to_residual = std::exchange(to_x, GradientMode::kAccumulate);
    spread(args, residual, to_residual);
    if (backward_weights_) run_backward_weights(args);
    if (backward_data_ && to_x != GradientMode::kNone) run_backward_data(args, to_x);
  }

 private:
  static constexpr std::int64_t kAlign = 64;
  static int operand(int post_op) {
    return DNNL_ARG_ATTR_MULTIPLE_POST_OP(post_op) | DNNL_ARG_SRC_1;
  }
  static std::int64_t align(std::int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }
  struct Workspace {
    std::byte* next;
    float* take(std::int64_t bytes) {
      float* here = reinterpret_cast<float*>(next);
      next += align(bytes);
      return here;
    }
  };
  bool has_shift() const { return op_.fused().bias || op_.fused().norm; }

  // How many neighbouring groups are computed as one, with zeros off the diagonal. oneDNN has no
  // vector code for groups narrower than the blocks of channels: 32 of 4 channels on 64x64 maps
  // took 2.1 s where 8 of 16 take 2 ms.
  std::int64_t united_groups(const KernelContext& context) const {
    const std::int64_t groups = op_.conv().groups, inputs = context.inputs[1].shape[1];
    const std::int64_t outputs = context.inputs[1].shape[0] / groups;
    const std::int64_t block =
        std::max(context.inputs[0].channel_block, context.outputs[0].channel_block);
    if (groups == 1 || block == 1 || (inputs == 1 && outputs == 1)) return 1;
    for (std::int64_t united = 1; united < groups; ++united) {
      const bool whole = united * inputs % block == 0 && united * outputs % block == 0;
      if (groups % united == 0 && whole) return united;
    }
    return groups;
  }

  void describe(const KernelContext& context) {
    const ConvAttributes& conv = op_.conv();
    x_ = onednn::describe(context.inputs[0]);
    y_ = onednn::describe(context.outputs[0]);
    const Shape& w = context.inputs[1].shape;
    const auto f32 = memory::data_type::f32;
    const std::int64_t groups = conv.groups / united_groups(context);
    const std::int64_t inputs = w[1] * united_groups(context);
    const memory::dims grouped = {groups, w[0] / groups, inputs, w[2], w[3]};
    const memory::dims plain = {w[0], inputs, w[2], w[3]};
    weight_any_ = groups == 1 ? memory::desc(plain, f32, memory::format_tag::any)
                              : memory::desc(grouped, f32, memory::format_tag::any);
    bias_ = memory::desc({w[0]}, f32, memory::format_tag::a);
    channels_ = memory::desc({1, w[0], 1, 1}, f32, memory::format_tag::abcd);
    strides_ = {conv.stride, conv.stride};
    padding_ = {conv.padding, conv.padding};
    dilation_ = {conv.dilation - 1, conv.dilation - 1};
    winograd_ = !context.direct_convolution && winograd_pays(conv, w, context.outputs[0].shape);
    flops_ = 2.0 * context.outputs[0].shape.count() * w[1] * w[2] * w[3];
    source_ = op_.weights(context.inputs);
    folded_ = onednn::folded_weights(context, source_);
  }

  // make(algorithm) with Winograd where the rule says so and oneDNN has it, else direct.
  template <typename Make>
  auto choose(const char* pass, Make make) {
    if (winograd_) {
      try {
        auto desc = make(dnnl::algorithm::convolution_winograd);
        note(pass, desc.impl_info_str());
        return desc;
      } catch (const dnnl::error& e) {
        if (e.status != dnnl_unimplemented) throw;
      }
    }
    return onednn::check("convolution", [&] {
      auto desc = make(dnnl::algorithm::convolution_direct);
      note(pass, desc.impl_info_str());
      return desc;
    });
  }
  void note(const char* pass, const std::string& name) {
    implementation_ += (implementation_.empty() ? "" : ", ") + std::string(pass) + " " + name;
  }
  template <typename Desc>
  void scratch(const Desc& desc) {
    scratch_bytes_ = std::max<std::int64_t>(
        scratch_bytes_, static_cast<std::int64_t>(desc.scratchpad_desc().get_size()));
  }

  // The norm is applied to the output, and the residual is read where it lies. Code that cannot has
  // the norm folded into weights and bias, and the residual in the output before.
  dnnl::primitive_attr epilogue() const {
    dnnl::post_ops post;
    if (scales_output_) {
      post.append_binary(dnnl::algorithm::binary_mul, channels_);
      post.append_binary(dnnl::algorithm::binary_add, channels_);
    }
    if (adds_operand_) post.append_binary(dnnl::algorithm::binary_add, y_);
    if (op_.fused().residual && !adds_operand_) post.append_sum(1.0f);
    if (op_.fused().relu) post.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    attributes.set_post_ops(post);
    return attributes;
  }

  void make_forward(const KernelContext& context) {
    // Folding into weights that never change is free; operands cost 1x1 convolutions 10 to 27 %.
    const bool frozen = context.training && !context.wants_gradient[1];
    // For inference too: Winograd would ask for weights in an order of its own, which no update
    // could be written into.
    hint_ = choose("fwd", [&](dnnl::algorithm algorithm) {
      const auto desc = [&](bool operands) {
        scales_output_ = operands && op_.fused().norm && !frozen;
        adds_operand_ = operands && op_.fused().residual;
        return dnnl::convolution_forward::primitive_desc(
            {prop_kind::forward_training, algorithm, x_, weight_any_,
             has_shift() && !scales_output_ ? bias_ : memory::desc(), y_, strides_, dilation_,
             padding_, padding_},
            epilogue(), engine_->engine);
      };
      if (!op_.fused().residual && (!op_.fused().norm || frozen)) return desc(false);
      if (algorithm == dnnl::algorithm::convolution_winograd) return desc(false);
      const auto with_operands = desc(true);
      const bool fast = std::string(with_operands.impl_info_str()).starts_with("jit");
      return fast ? with_operands : desc(false);
    });
    scratch(hint_);
    forward_weights_ = onednn::ordered_weights(context, source_, hint_.weights_desc(),
                                               op_.fused().norm && !scales_output_, /*once=*/false);
    forward_ = onednn::Call(engine_, dnnl::convolution_forward(hint_));
    forward_.bind(DNNL_ARG_SRC, x_);
    forward_.bind(DNNL_ARG_WEIGHTS, hint_.weights_desc());
    if (scales_output_) {
      forward_.bind(operand(0), channels_);
      forward_.bind(operand(1), channels_);
    } else if (has_shift()) {
      forward_.bind(DNNL_ARG_BIAS, bias_);
    }
    operand_ = operand(scales_output_ ? 2 : 0);
    if (adds_operand_) forward_.bind(operand_, y_);
    forward_.bind(DNNL_ARG_DST, y_);
    forward_.bind(DNNL_ARG_SCRATCHPAD, hint_.scratchpad_desc());
  }

  void make_backward_data(const KernelContext& context) {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const auto desc = choose("bwd-data", [&](dnnl::algorithm algorithm) {
      return dnnl::convolution_backward_data::primitive_desc(
          {algorithm, x_, weight_any_, y_, strides_, dilation_, padding_, padding_}, attributes,
          engine_->engine, hint_);
    });
    scratch(desc);
    dx_bytes_ = static_cast<std::int64_t>(x_.get_size());
    backward_data_weights_ =
        onednn::ordered_weights(context, source_, desc.weights_desc(), false, /*once=*/true);
    backward_data_ = onednn::Call(engine_, dnnl::convolution_backward_data(desc));
    backward_data_.bind(DNNL_ARG_DIFF_DST, y_);
    backward_data_.bind(DNNL_ARG_WEIGHTS, desc.weights_desc());
    backward_data_.bind(DNNL_ARG_DIFF_SRC, x_);
    backward_data_.bind(DNNL_ARG_SCRATCHPAD, desc.scratchpad_desc());
  }

  void make_backward_weights() {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const memory::desc bias = wants_bias_ ? bias_ : memory::desc();
    const auto desc = choose("bwd-weights", [&](dnnl::algorithm algorithm) {
      return dnnl::convolution_backward_weights::primitive_desc(
          {algorithm, x_, weight_any_, bias, y_, strides_, dilation_, padding_, padding_},
          attributes, engine_->engine, hint_);
    });
    scratch(desc);
    dw_ordered_ = desc.diff_weights_desc();
    dw_order_.emplace(dw_ordered_, source_.weight.shape[1], source_.weight.tile);
    bias_bytes_ = static_cast<std::int64_t>(bias_.get_size());
    backward_weights_ = onednn::Call(engine_, dnnl::convolution_backward_weights(desc));
    backward_weights_.bind(DNNL_ARG_SRC, x_);
    backward_weights_.bind(DNNL_ARG_DIFF_DST, y_);
    backward_weights_.bind(DNNL_ARG_DIFF_WEIGHTS, dw_ordered_);
    if (wants_bias_) backward_weights_.bind(DNNL_ARG_DIFF_BIAS, bias_);
    backward_weights_.bind(DNNL_ARG_SCRATCHPAD, desc.scratchpad_desc());
  }

  void run_backward_weights(const KernelArgs& args) {
    Workspace space{args.workspace.data() + align(scratch_bytes_)};
    const GradientMode mode = wants_weight_ ? args.modes[1] : GradientMode::kNone;
    const bool in_place = mode == GradientMode::kOverwrite && dw_order_->is_the_parameters();
    float* ordered = in_place ? args.dinputs[1].f32()
                              : space.take(static_cast<std::int64_t>(dw_ordered_.get_size()));
    float* db = space.take(bias_bytes_);
    backward_weights_.set(DNNL_ARG_SRC, args.inputs[0].data);
    backward_weights_.set(DNNL_ARG_DIFF_DST, args.doutputs[0].data);
    backward_weights_.set(DNNL_ARG_DIFF_WEIGHTS, ordered);
    if (wants_bias_) backward_weights_.set(DNNL_ARG_DIFF_BIAS, db);
    backward_weights_.set(DNNL_ARG_SCRATCHPAD, args.workspace.data());
    backward_weights_.run();
    if (mode != GradientMode::kNone && !in_place) {
      dw_order_->restore(stream_, ordered, mode == GradientMode::kAccumulate,
                         args.dinputs[1].f32());
    }
    if (wants_bias_) give_bias(args, db);
  }

  void run_backward_data(const KernelArgs& args, GradientMode mode) {
    Workspace space{args.workspace.data() + align(scratch_bytes_)};
    const bool adds = mode == GradientMode::kAccumulate;
    float* dx = adds ? space.take(dx_bytes_) : args.dinputs[0].f32();
    backward_data_.set(DNNL_ARG_DIFF_DST, args.doutputs[0].data);
    float* const room = space.take(backward_data_weights_->room_bytes());
    backward_data_.set(DNNL_ARG_WEIGHTS, backward_data_weights_->get(args.parameter_version, room));
    backward_data_.set(DNNL_ARG_DIFF_SRC, dx);
    backward_data_.set(DNNL_ARG_SCRATCHPAD, args.workspace.data());
    backward_data_.run();
    if (adds) add(dx, args.dinputs[0].f32(), args.dinputs[0].physical_count());
  }

  // One sweep over dy: dz, from it the gradient of input `residual`, and dv.
  void spread(const KernelArgs& args, int residual, GradientMode mode) {
    const Tensor& dy = args.doutputs[0];
    const float* const scale = folded_->scale(args.parameter_version);
    const float* const y = op_.fused().relu ? args.outputs[0].f32() : nullptr;
    float* const to = mode != GradientMode::kNone ? args.dinputs[residual].f32() : nullptr;
    if (!y && !to && !scale) return;
    float* const dz = dy.f32();
    const bool adds = mode == GradientMode::kAccumulate;
    const auto body = [=](std::int64_t begin, std::int64_t end) {
      if (y) {
        for (std::int64_t i = begin; i < end; ++i) dz[i] = y[i] > 0.0f ? dz[i] : 0.0f;
      }
      if (to && !adds) std::copy(dz + begin, dz + end, to + begin);
      if (to && adds) {
        for (std::int64_t i = begin; i < end; ++i) to[i] += dz[i];
      }
      if (scale) multiply_channels(dy, scale, begin, end);
    };
    comm::parallel_for_blocks(stream_, dy.physical_count(), kSweep, body);
  }

  // t[i] *= scale[channel of i] for physical elements [begin, end).
  static void multiply_channels(const Tensor& t, const float* scale, std::int64_t begin,
                                std::int64_t end) {
    const std::int64_t block = t.channel_block, plane = t.shape[2] * t.shape[3] * block;
    const std::int64_t num_blocks = (t.shape[1] + block - 1) / block;
    float* const values = t.f32();
    for (std::int64_t i = begin; i < end;) {
      const std::int64_t last = std::min(end, (i / plane + 1) * plane);
      const float* const of_block = scale + i / plane % num_blocks * block;
      if (block == 16) {  // a count that the compiler knows; pieces are whole blocks
        for (; i < last; i += 16) {
          for (std::int64_t lane = 0; lane < 16; ++lane) values[i + lane] *= of_block[lane];
        }
      }
      for (; i < last; ++i) values[i] *= of_block[i % block];
    }
  }

  // gradient (+)= db
  void give_bias(const KernelArgs& args, const float* db) {
    const Tensor& gradient = args.dinputs[op_.bias_input()];
    const GradientMode mode = args.modes[op_.bias_input()];
    if (mode == GradientMode::kNone) return;
    float* to = gradient.f32();
    for (std::int64_t o = 0; o < gradient.shape[0]; ++o) {
      to[o] = mode == GradientMode::kAccumulate ? to[o] + db[o] : db[o];
    }
  }
  void copy(const float* from, float* to, std::int64_t n) {
    comm::parallel_for_blocks(stream_, n, kSweep, [=](std::int64_t begin, std::int64_t end) {
      std::memcpy(to + begin, from + begin, static_cast<std::size_t>(end - begin) * sizeof(float));
    });
  }
  void add(const float* from, float* to, std::int64_t n) {
    comm::parallel_for_blocks(stream_, n, kSweep, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) to[i] += from[i];
    });
  }
  static constexpr std::int64_t kSweep = 16384;  // 64 KiB a piece: in L2, enough work a thread

  Conv2dOp op_;
  comm::StreamView stream_;
  std::shared_ptr<onednn::Engine> engine_;
  memory::desc x_, y_, weight_any_, bias_, channels_, dw_ordered_;
  memory::dims strides_, padding_, dilation_;
  bool winograd_ = false, scales_output_ = false, adds_operand_ = false;
  bool wants_weight_ = false, wants_bias_ = false;
  int operand_ = 0;  // where the residual is one
  double flops_ = 0.0;
  std::int64_t scratch_bytes_ = 0, dx_bytes_ = 0, bias_bytes_ = 0;
  std::string implementation_;
  WeightSource source_;
  std::shared_ptr<onednn::FoldedWeights> folded_;
  std::shared_ptr<onednn::OrderedWeights> forward_weights_, backward_data_weights_;
  std::optional<onednn::WeightOrder> dw_order_;
  dnnl::convolution_forward::primitive_desc hint_;
  onednn::Call forward_, backward_data_, backward_weights_;
};

}  // namespace

// With full channel blocks 2.0-3.0 times direct on maps of 16x16 and more, 1.2-1.8 times on eight
// of 8x8, 0.6-1.0 times on two.
bool winograd_pays(const ConvAttributes& conv, const Shape& weight, const Shape& y) {
  const bool wide = y[2] >= 16 && y[3] >= 16;
  const bool many = y[2] >= 8 && y[3] >= 8 && y[0] * y[2] * y[3] >= 512;
  return weight[2] == 3 && weight[3] == 3 && conv.stride == 1 && conv.dilation == 1 &&
         conv.groups == 1 && conv.padding == 1 && (wide || many) && weight[0] >= 32 &&
         weight[1] >= 32 && comm::cpu_info().isa.starts_with("avx512");
}

std::unique_ptr<Kernel> compile_conv2d_onednn(const Conv2dOp& op, const KernelContext& context) {
  if (auto parts = compile_conv2d_space_to_batch(op, context)) return parts;
  return std::make_unique<Conv2dOneDnn>(op, context);
}

}  // namespace models
