#include "models/ops/batch_norm.h"

#include <fmt/format.h>

#include "models/ops/add.h"
#include "models/ops/relu.h"

namespace models {

Value batch_norm(Graph& graph, Value x, const BatchNormParameters& parameters, float eps) {
  const auto outputs =
      graph.add(std::make_shared<BatchNormOp>(eps), {x, parameters.gamma, parameters.beta});
  graph.statistic(parameters.running_mean, outputs[1]);
  graph.statistic(parameters.running_variance, outputs[3]);
  return outputs[0];
}

std::string BatchNormOp::attributes() const {
  std::string text = fmt::format("eps {:g}", eps_);
  if (fused_.residual) text += " +residual";
  if (fused_.relu) text += " +relu";
  return text;
}

std::vector<ValueSpec> BatchNormOp::infer(std::span<const ValueSpec> inputs) const {
  const Shape& x = inputs[0].shape;
  REQUIRE(x.rank == 4 && inputs[1].shape.count() == x[1] && inputs[2].shape.count() == x[1],
          "batch_norm of {}", to_string(x));
  if (fused_.residual) {
    REQUIRE(inputs[kResidual].shape == x, "residual {} for {}", to_string(inputs[kResidual].shape),
            to_string(x));
  }
  const ValueSpec channels{Type::kF32, {x[1]}};
  return {inputs[0], channels, channels, channels};
}

Saved BatchNormOp::saved() const {
  Saved saved{{0, 1}, {1, 2}};
  if (fused_.relu) saved.outputs.push_back(0);  // dz = dy where y > 0
  return saved;
}

std::shared_ptr<const Op> BatchNormOp::absorb(const Op& consumer, int /*slot*/) const {
  if (fused_.relu) return nullptr;
  Fused fused = fused_;
  if (dynamic_cast<const AddOp*>(&consumer)) {
    if (fused_.residual) return nullptr;
    fused.residual = true;
  } else if (dynamic_cast<const ReluOp*>(&consumer)) {
    fused.relu = true;
  } else {
    return nullptr;
  }
  return std::make_shared<BatchNormOp>(eps_, fused);
}

std::unique_ptr<Kernel> BatchNormOp::compile(const KernelContext& context) const {
  return context.device.kind == comm::DeviceKind::kCpu ? compile_batch_norm_onednn(*this, context)
                                                       : compile_batch_norm_gpu(*this, context);
}

}  // namespace models
