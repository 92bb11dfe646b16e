#include "models/ops/conv_engine.h"

#include <fmt/format.h>

namespace models {
namespace {

const char* to_string(ConvPass pass) {
  switch (pass) {
    case ConvPass::kForward: return "forward";
    case ConvPass::kDataGradient: return "data gradient";
    case ConvPass::kFilterGradient: return "filter gradient";
  }
  return "";
}

}  // namespace

std::string to_string(const ConvRequest& r) {
  return fmt::format("{} {} {} * {} stride {} padding {} dilation {} {}{}{}{}{}",
                     to_string(r.type), to_string(r.pass), to_string(r.x), to_string(r.weight),
                     r.stride, r.padding, r.dilation,
                     r.channels_last ? "channels last" : "channels first",
                     r.direct ? " direct" : "", r.epilogue ? " +bias" : "",
                     r.residual ? " +residual" : "", r.relu ? " +relu" : "");
}

std::shared_ptr<ConvEngine> conv_engine(const KernelContext& context, const ConvRequest& request) {
  const auto library =
      context.engines->get<ConvLibrary>(kConvLibrary, [&] { return open_cudnn(context); });
  return context.engines->get<ConvEngine>(
      to_string(request), [&] { return std::shared_ptr<ConvEngine>(library->find(request)); });
}

}  // namespace models
