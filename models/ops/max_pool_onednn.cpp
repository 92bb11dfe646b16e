#include <algorithm>

#include "models/ops/elementwise.h"
#include "models/ops/max_pool.h"
#include "models/ops/onednn.h"

namespace models {
namespace {

using dnnl::memory;

class MaxPoolOneDnn final : public Kernel {
 public:
  MaxPoolOneDnn(const MaxPoolOp& op, const KernelContext& context)
      : stream_(context.stream), training_(context.training) {
    const auto engine = onednn::engine(context);
    const memory::desc x = onednn::describe(context.inputs[0]);
    const memory::desc y = onednn::describe(context.outputs[0]);
    const memory::dims stride = {op.stride(), op.stride()}, window = {op.window(), op.window()},
                       padding = {op.padding(), op.padding()};
    const Shape &in = context.inputs[0].shape, &out = context.outputs[0].shape;
    const memory::dims after = {std::max(op.padding(), op.padding_after(in[2], out[2])),
                                std::max(op.padding(), op.padding_after(in[3], out[3]))};
    const auto kind = training_ ? dnnl::prop_kind::forward_training
                                : dnnl::prop_kind::forward_inference;
    const auto forward = onednn::check("max_pool", [&] {
      return dnnl::pooling_forward::primitive_desc(
          {kind, dnnl::algorithm::pooling_max, x, y, stride, window, padding, after},
          engine->engine);
    });
    forward_ = onednn::Call(engine, dnnl::pooling_forward(forward));
    forward_.bind(DNNL_ARG_SRC, x);
    forward_.bind(DNNL_ARG_DST, y);
    if (!training_) return;
    const memory::desc indices = forward.workspace_desc();
    REQUIRE(static_cast<std::int64_t>(indices.get_size()) <= context.outputs[1].physical_bytes(),
            "pooling indices need {} bytes", indices.get_size());
    forward_.bind(DNNL_ARG_WORKSPACE, indices);
    const auto backward = onednn::check("max_pool backward", [&] {
      return dnnl::pooling_backward::primitive_desc(
          {dnnl::algorithm::pooling_max, x, y, stride, window, padding, after}, engine->engine,
          forward);
    });
    backward_ = onednn::Call(engine, dnnl::pooling_backward(backward));
    backward_.bind(DNNL_ARG_DIFF_DST, y);
    backward_.bind(DNNL_ARG_DIFF_SRC, x);
    backward_.bind(DNNL_ARG_WORKSPACE, indices);
    dx_bytes_ = static_cast<std::int64_t>(x.get_size());
  }

  std::int64_t workspace_bytes() const override { return dx_bytes_; }

  void forward(const KernelArgs& args) override {
    forward_.set(DNNL_ARG_SRC, args.inputs[0].data);
    forward_.set(DNNL_ARG_DST, args.outputs[0].data);
    if (training_) forward_.set(DNNL_ARG_WORKSPACE, args.outputs[1].data);
    forward_.run();
  }

  // dx at each window's maximum (+)= dy
  void backward(const KernelArgs& args) override {
    const bool adds = args.modes[0] == GradientMode::kAccumulate;
    Tensor dx = args.dinputs[0];
    if (adds) dx.data = args.workspace.data();
    backward_.set(DNNL_ARG_DIFF_DST, args.doutputs[0].data);
    backward_.set(DNNL_ARG_WORKSPACE, args.outputs[1].data);
    backward_.set(DNNL_ARG_DIFF_SRC, dx.data);
    backward_.run();
    if (adds) give_gradient(stream_, dx, args.dinputs[0], args.modes[0]);
  }

 private:
  comm::StreamView stream_;
  bool training_;
  std::int64_t dx_bytes_ = 0;
  onednn::Call forward_, backward_;
};

}  // namespace

std::unique_ptr<Kernel> compile_max_pool_onednn(const MaxPoolOp& op, const KernelContext& context) {
  return std::make_unique<MaxPoolOneDnn>(op, context);
}

}  // namespace models
