// Convolution on the CPU by oneDNN: blocked activations, bias + residual + ReLU as post-ops,
// Winograd F(4x4, 3x3) by a fixed rule, weights reordered once per update.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "comm/parallel.h"
#include "models/ops/conv2d.h"
#include "models/ops/prepared_weights.h"

namespace models {
namespace {

using dnnl::memory;
using dnnl::prop_kind;

// Winograd pays for 3x3 convolutions of stride 1 on maps of at least 16x16 with full channel
// blocks: 2.0-3.0 times direct there, 0.8-1.2 times on 8x8. A rule by shape, never a timing,
// because the choice decides bits.
bool winograd_pays(const ConvAttributes& conv, const Shape& weight, const Shape& y) {
  return weight[2] == 3 && weight[3] == 3 && conv.stride == 1 && conv.dilation == 1 &&
         conv.groups == 1 && conv.padding == 1 && y[2] >= 16 && y[3] >= 16 && weight[0] >= 32 &&
         weight[1] >= 32 && comm::cpu_info().isa.starts_with("avx512");
}

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
    return scratch_bytes_ + static_cast<std::int64_t>(dw_ordered_.get_size()) + dx_bytes_ +
           bias_bytes_ + 3 * kAlign;
  }
  double forward_flops() const override { return flops_; }
  double backward_flops() const override {
    return flops_ * ((backward_data_ ? 1 : 0) + (backward_weights_ ? 1 : 0));
  }
  std::string implementation() const override { return implementation_; }

  void forward(const KernelArgs& args) override {
    if (op_.fused().residual) {
      const Tensor& residual = args.inputs[op_.residual_input()];
      copy(residual.f32(), args.outputs[0].f32(), residual.physical_count());
    }
    forward_.set(DNNL_ARG_SRC, args.inputs[0].data);
    forward_.set(DNNL_ARG_WEIGHTS, forward_weights_->get(args.parameter_version));
    if (has_shift()) forward_.set(DNNL_ARG_BIAS, folded_->bias(args.parameter_version));
    forward_.set(DNNL_ARG_DST, args.outputs[0].data);
    forward_.set(DNNL_ARG_SCRATCHPAD, args.workspace.data());
    forward_.run();
  }

  // dz = dy * [y > 0];  d residual = dz;  dx = W^T dz;  dW = s * (dz x);  db = s * sum dz
  void backward(const KernelArgs& args) override {
    const Tensor& dz = args.doutputs[0];
    if (op_.fused().relu) mask(args.outputs[0].f32(), dz.f32(), dz.physical_count());
    Workspace space{args.workspace.data() + align(scratch_bytes_)};
    if (backward_weights_) run_backward_weights(args, space);
    if (backward_data_ && args.modes[0] != GradientMode::kNone) run_backward_data(args, space);
    if (op_.fused().residual) give_residual(args);  // inputs in order: x may be the residual
  }

 private:
  static constexpr std::int64_t kAlign = 64;
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

  void describe(const KernelContext& context) {
    const ConvAttributes& conv = op_.conv();
    x_ = onednn::describe(context.inputs[0]);
    y_ = onednn::describe(context.outputs[0]);
    const Shape& w = context.inputs[1].shape;
    const memory::dims grouped = {conv.groups, w[0] / conv.groups, w[1], w[2], w[3]};
    const memory::dims plain = {w[0], w[1], w[2], w[3]};
    const auto f32 = memory::data_type::f32;
    weight_any_ = conv.groups == 1 ? memory::desc(plain, f32, memory::format_tag::any)
                                   : memory::desc(grouped, f32, memory::format_tag::any);
    bias_ = memory::desc({w[0]}, f32, memory::format_tag::a);
    strides_ = {conv.stride, conv.stride};
    padding_ = {conv.padding, conv.padding};
    dilation_ = {conv.dilation - 1, conv.dilation - 1};
    winograd_ = !context.direct_convolution && winograd_pays(conv, w, context.outputs[0].shape);
    flops_ = 2.0 * context.outputs[0].shape.count() * w[1] * w[2] * w[3];
    source_ = {context.inputs[1]};
    if (op_.fused().bias) source_.bias = context.inputs[op_.bias_input()];
    if (op_.fused().norm) {
      const int first = op_.norm_input();
      source_.gamma = context.inputs[first];
      source_.beta = context.inputs[first + 1];
      source_.mean = context.inputs[first + 2];
      source_.variance = context.inputs[first + 3];
      source_.eps = op_.fused().norm_eps;
    }
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

  void make_forward(const KernelContext& context) {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    dnnl::post_ops post;
    if (op_.fused().residual) post.append_sum(1.0f);
    if (op_.fused().relu) post.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
    attributes.set_post_ops(post);
    const memory::desc bias = has_shift() ? bias_ : memory::desc();
    // For inference too: Winograd would ask for weights in an order of its own, which no update
    // could be written into.
    hint_ = choose("fwd", [&](dnnl::algorithm algorithm) {
      return dnnl::convolution_forward::primitive_desc(
          {prop_kind::forward_training, algorithm, x_, weight_any_, bias, y_, strides_, dilation_,
           padding_, padding_},
          attributes, engine_->engine);
    });
    scratch(hint_);
    forward_weights_ = onednn::ordered_weights(context, source_, hint_.weights_desc());
    forward_ = onednn::Call(engine_, dnnl::convolution_forward(hint_));
    forward_.bind(DNNL_ARG_SRC, x_);
    forward_.bind(DNNL_ARG_WEIGHTS, hint_.weights_desc());
    if (has_shift()) forward_.bind(DNNL_ARG_BIAS, bias_);
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
    backward_weights_order_ = onednn::ordered_weights(context, source_, desc.weights_desc());
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
    dw_order_.emplace(dw_ordered_);
    bias_bytes_ = static_cast<std::int64_t>(bias_.get_size());
    backward_weights_ = onednn::Call(engine_, dnnl::convolution_backward_weights(desc));
    backward_weights_.bind(DNNL_ARG_SRC, x_);
    backward_weights_.bind(DNNL_ARG_DIFF_DST, y_);
    backward_weights_.bind(DNNL_ARG_DIFF_WEIGHTS, dw_ordered_);
    if (wants_bias_) backward_weights_.bind(DNNL_ARG_DIFF_BIAS, bias_);
    backward_weights_.bind(DNNL_ARG_SCRATCHPAD, desc.scratchpad_desc());
  }

  void run_backward_weights(const KernelArgs& args, Workspace& space) {
    float* ordered = space.take(static_cast<std::int64_t>(dw_ordered_.get_size()));
    float* db = space.take(bias_bytes_);
    backward_weights_.set(DNNL_ARG_SRC, args.inputs[0].data);
    backward_weights_.set(DNNL_ARG_DIFF_DST, args.doutputs[0].data);
    backward_weights_.set(DNNL_ARG_DIFF_WEIGHTS, ordered);
    if (wants_bias_) backward_weights_.set(DNNL_ARG_DIFF_BIAS, db);
    backward_weights_.set(DNNL_ARG_SCRATCHPAD, args.workspace.data());
    backward_weights_.run();
    const float* scale = folded_->scale(args.parameter_version);
    if (wants_weight_ && args.modes[1] != GradientMode::kNone) {
      dw_order_->restore(stream_, ordered, scale, args.modes[1] == GradientMode::kAccumulate,
                         args.dinputs[1].f32());
    }
    if (wants_bias_) give_bias(args, db, scale);
  }

  void run_backward_data(const KernelArgs& args, Workspace& space) {
    const bool adds = args.modes[0] == GradientMode::kAccumulate;
    float* dx = adds ? space.take(dx_bytes_) : args.dinputs[0].f32();
    backward_data_.set(DNNL_ARG_DIFF_DST, args.doutputs[0].data);
    backward_data_.set(DNNL_ARG_WEIGHTS, backward_weights_order_->get(args.parameter_version));
    backward_data_.set(DNNL_ARG_DIFF_SRC, dx);
    backward_data_.set(DNNL_ARG_SCRATCHPAD, args.workspace.data());
    backward_data_.run();
    if (adds) add(dx, args.dinputs[0].f32(), args.dinputs[0].physical_count());
  }

  void give_residual(const KernelArgs& args) {
    const int i = op_.residual_input();
    const Tensor& dz = args.doutputs[0];
    if (args.modes[i] == GradientMode::kOverwrite) {
      copy(dz.f32(), args.dinputs[i].f32(), dz.physical_count());
    } else if (args.modes[i] == GradientMode::kAccumulate) {
      add(dz.f32(), args.dinputs[i].f32(), dz.physical_count());
    }
  }

  // gradient (+)= scale(o) * db(o)
  void give_bias(const KernelArgs& args, const float* db, const float* scale) {
    const Tensor& gradient = args.dinputs[op_.bias_input()];
    const GradientMode mode = args.modes[op_.bias_input()];
    if (mode == GradientMode::kNone) return;
    float* to = gradient.f32();
    for (std::int64_t o = 0; o < gradient.shape[0]; ++o) {
      const float value = scale ? scale[o] * db[o] : db[o];
      to[o] = mode == GradientMode::kAccumulate ? to[o] + value : value;
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
  void mask(const float* y, float* dy, std::int64_t n) {
    comm::parallel_for_blocks(stream_, n, kSweep, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) dy[i] = y[i] > 0.0f ? dy[i] : 0.0f;
    });
  }
  static constexpr std::int64_t kSweep = 16384;  // 64 KiB a piece: in L2, enough work a thread

  Conv2dOp op_;
  comm::StreamView stream_;
  std::shared_ptr<onednn::Engine> engine_;
  memory::desc x_, y_, weight_any_, bias_, dw_ordered_;
  memory::dims strides_, padding_, dilation_;
  bool winograd_ = false, wants_weight_ = false, wants_bias_ = false;
  double flops_ = 0.0;
  std::int64_t scratch_bytes_ = 0, dx_bytes_ = 0, bias_bytes_ = 0;
  std::string implementation_;
  onednn::FoldedWeights::Source source_;
  std::shared_ptr<onednn::FoldedWeights> folded_;
  std::shared_ptr<onednn::OrderedWeights> forward_weights_, backward_weights_order_;
  std::optional<onednn::WeightOrder> dw_order_;
  dnnl::convolution_forward::primitive_desc hint_;
  onednn::Call forward_, backward_data_, backward_weights_;
};

}  // namespace

std::unique_ptr<Kernel> compile_conv2d_onednn(const Conv2dOp& op, const KernelContext& context) {
  return std::make_unique<Conv2dOneDnn>(op, context);
}

}  // namespace models
