#include "models/ops/conv2d.h"

#include <fmt/format.h>

#include "models/ops/add.h"
#include "models/ops/conv2d_onednn.h"
#include "models/ops/frozen_norm.h"
#include "models/ops/relu.h"

namespace models {

Value conv2d(Graph& graph, Value x, Value weight, std::optional<Value> bias,
             const ConvAttributes& attributes) {
  std::vector<Value> inputs = {x, weight};
  if (bias) inputs.push_back(*bias);
  const Conv2dOp::Fused fused{.bias = bias.has_value()};
  return graph.add(std::make_shared<Conv2dOp>(attributes, fused), std::move(inputs))[0];
}

std::string Conv2dOp::attributes() const {
  std::string text = fmt::format("stride {} padding {}", attributes_.stride, attributes_.padding);
  if (attributes_.dilation != 1) text += fmt::format(" dilation {}", attributes_.dilation);
  if (attributes_.groups != 1) text += fmt::format(" groups {}", attributes_.groups);
  if (fused_.norm) text += " +norm";
  if (fused_.residual) text += " +residual";
  if (fused_.relu) text += " +relu";
  return text;
}

std::vector<ValueSpec> Conv2dOp::infer(std::span<const ValueSpec> inputs) const {
  const Shape& x = inputs[0].shape;
  const Shape& w = inputs[1].shape;
  REQUIRE(x.rank == 4 && w.rank == 4, "conv2d of {} with {}", to_string(x), to_string(w));
  REQUIRE(x[1] == w[1] * attributes_.groups && w[0] % attributes_.groups == 0,
          "conv2d of {} with {} in {} groups", to_string(x), to_string(w), attributes_.groups);
  Shape y = {x[0], w[0], 0, 0};
  for (int d = 2; d < 4; ++d) {
    const std::int64_t extent = attributes_.dilation * (w[d] - 1) + 1;
    y[d] = (x[d] + 2 * attributes_.padding - extent) / attributes_.stride + 1;
    REQUIRE(x[d] + 2 * attributes_.padding >= extent, "conv2d window {} over {}", to_string(w),
            to_string(x));
  }
  if (fused_.residual) {
    REQUIRE(inputs[residual_input()].shape == y, "residual {} for {}",
            to_string(inputs[residual_input()].shape), to_string(y));
  }
  return {{Type::kF32, y}};
}

Saved Conv2dOp::saved() const {
  Saved saved{{0, 1}, {}};
  if (fused_.norm) {
    for (int i = 0; i < 4; ++i) saved.inputs.push_back(norm_input() + i);
  }
  if (fused_.relu) saved.outputs.push_back(0);  // dz = dy where y > 0
  return saved;
}

bool Conv2dOp::differentiable(int input) const {
  const bool is_norm = fused_.norm && input >= norm_input() && input < norm_input() + 4;
  return !is_norm;
}

std::shared_ptr<const Op> Conv2dOp::absorb(const Op& consumer, int slot) const {
  if (fused_.relu) return nullptr;
  Fused fused = fused_;
  if (const auto* norm = dynamic_cast<const FrozenNormOp*>(&consumer)) {
    if (fused_.norm || fused_.residual || slot != 0) return nullptr;
    fused.norm = true;
    fused.norm_eps = norm->eps();
  } else if (dynamic_cast<const AddOp*>(&consumer)) {
    if (fused_.residual) return nullptr;
    fused.residual = true;
  } else if (dynamic_cast<const ReluOp*>(&consumer)) {
    fused.relu = true;
  } else {
    return nullptr;
  }
  return std::make_shared<Conv2dOp>(attributes_, fused);
}

WeightSource Conv2dOp::weights(std::span<const Tensor> inputs) const {
  WeightSource source{inputs[1]};
  if (fused_.bias) source.bias = inputs[bias_input()];
  if (fused_.norm) {
    const auto norm = inputs.subspan(norm_input(), 4);
    source.gamma = norm[0];
    source.beta = norm[1];
    source.mean = norm[2];
    source.variance = norm[3];
    source.eps = fused_.norm_eps;
  }
  return source;
}

std::unique_ptr<Kernel> Conv2dOp::compile(const KernelContext& context) const {
  return context.device.kind == comm::DeviceKind::kCpu ? compile_conv2d_onednn(*this, context)
                                                       : compile_conv2d_gpu(*this, context);
}

}  // namespace models
