#include "models/cnn.h"

#include "models/layers.h"
#include "models/ops/flatten.h"
#include "models/ops/max_pool.h"
#include "models/ops/relu.h"

namespace models {
namespace {

Value conv_relu_pool(Graph& graph, Value x, const std::string& name, std::int64_t channels) {
  const Initializer init = uniform_by_fan(graph.shape(x)[1] * 9);
  const ConvLayer layer{.name = name,
                        .channels = channels,
                        .conv = {.padding = 1},
                        .weight_init = init,
                        .bias_init = init};
  return max_pool(graph, relu(graph, conv_layer(graph, x, layer, {})), 2, 2, 0);
}

}  // namespace

Value cnn(Graph& graph, Value image, int num_classes, const Masks& masks) {
  const Shape& s = graph.shape(image);
  if (s[2] < 4 || s[3] < 4) {
    comm::fail(comm::ExitCode::kConfig,
               "data.size: [{}, {}] vanishes in two poolings; cnn needs at least [4, 4]", s[2],
               s[3]);
  }
  Value x = conv_relu_pool(graph, image, "0", 64);
  x = conv_relu_pool(graph, x, "3", 128);
  x = relu(graph, linear_layer(graph, flatten(graph, x), "7", 1024));
  return linear_layer(graph, masked(graph, x, masks), "9", num_classes);
}

}  // namespace models
