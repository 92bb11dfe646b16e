#include "models/ops/max_pool.h"

#include <fmt/format.h>

namespace models {

Value max_pool(Graph& graph, Value x, int window, int stride, int padding, bool ceil) {
  return graph.add(std::make_shared<MaxPoolOp>(window, stride, padding, ceil), {x})[0];
}

std::string MaxPoolOp::attributes() const {
  return fmt::format("window {} stride {} padding {}{}", window_, stride_, padding_,
                     ceil_ ? " ceil" : "");
}

std::vector<ValueSpec> MaxPoolOp::infer(std::span<const ValueSpec> inputs) const {
  Shape y = inputs[0].shape;
  REQUIRE(y.rank == 4 && window_ * window_ <= 255, "max_pool of {}", to_string(y));
  for (int d = 2; d < 4; ++d) {
    REQUIRE(y[d] + 2 * padding_ >= window_, "window {} over {}", window_, to_string(y));
    const std::int64_t reach = y[d] + padding_;  // windows start before here
    y[d] = (reach + padding_ - window_ + (ceil_ ? stride_ - 1 : 0)) / stride_ + 1;
    if ((y[d] - 1) * stride_ >= reach) --y[d];
  }
  const std::int64_t padded = (y[1] + 15) / 16 * 16;  // indices of whole channel blocks
  return {{Type::kF32, y}, {Type::kU8, {y[0] * padded * y[2] * y[3]}}};
}

std::unique_ptr<Kernel> MaxPoolOp::compile(const KernelContext& context) const {
  return context.device.kind == comm::DeviceKind::kCpu ? compile_max_pool_onednn(*this, context)
                                                       : compile_max_pool_gpu(*this, context);
}

}  // namespace models
