#include "models/ops/batch_norm.h"

#include <fmt/format.h>

namespace models {

Value batch_norm(Graph& graph, Value x, const BatchNormParameters& parameters, float eps) {
  const auto outputs =
      graph.add(std::make_shared<BatchNormOp>(eps), {x, parameters.gamma, parameters.beta});
  graph.statistic(parameters.running_mean, outputs[1]);
  graph.statistic(parameters.running_variance, outputs[3]);
  return outputs[0];
}

std::string BatchNormOp::attributes() const { return fmt::format("eps {:g}", eps_); }

std::vector<ValueSpec> BatchNormOp::infer(std::span<const ValueSpec> inputs) const {
  const Shape& x = inputs[0].shape;
  REQUIRE(x.rank == 4 && inputs[1].shape.count() == x[1] && inputs[2].shape.count() == x[1],
          "batch_norm of {}", to_string(x));
  const ValueSpec channels{Type::kF32, {x[1]}};
  return {inputs[0], channels, channels, channels};
}

std::unique_ptr<Kernel> BatchNormOp::compile(const KernelContext& context) const {
  return context.device.kind == comm::DeviceKind::kCpu ? compile_batch_norm_onednn(*this, context)
                                                       : compile_batch_norm_gpu(*this, context);
}

}  // namespace models
