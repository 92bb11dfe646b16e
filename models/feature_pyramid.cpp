#include "models/feature_pyramid.h"

#include "models/ops/add.h"
#include "models/ops/relu.h"
#include "models/ops/upsample_nearest.h"

namespace models {
namespace {

Value conv(Graph& graph, Value x, const std::string& name, std::int64_t channels, int kernel,
           int stride, const LayerOptions& options) {
  const ConvLayer layer{.name = name,
                        .channels = channels,
                        .kernel = kernel,
                        .conv = {.stride = stride, .padding = kernel / 2},
                        .weight_init = uniform_fan_in(graph.shape(x)[1], kernel)};
  return conv_layer(graph, x, layer, options);
}

}  // namespace

std::vector<Value> feature_pyramid(Graph& graph, const std::vector<Value>& stages,
                                   std::int64_t channels, const LayerOptions& options) {
  const int count = static_cast<int>(stages.size());
  std::vector<Value> levels(stages.size());
  Value top{};
  for (int i = count - 1; i >= 0; --i) {
    const std::string index = std::to_string(i) + ".0";
    Value inner = conv(graph, stages[i], "inner_blocks." + index, channels, 1, 1, options);
    if (i < count - 1) {
      const Shape& shape = graph.shape(inner);
      inner = add(graph, inner, upsample_nearest(graph, top, shape[2], shape[3]));
    }
    top = inner;
    levels[i] = conv(graph, inner, "layer_blocks." + index, channels, 3, 1, options);
  }
  const Value p6 = conv(graph, levels.back(), "extra_blocks.p6", channels, 3, 2, options);
  levels.push_back(p6);
  levels.push_back(conv(graph, relu(graph, p6), "extra_blocks.p7", channels, 3, 2, options));
  return levels;
}

}  // namespace models
