#include "models/mlp.h"

#include "models/ops/flatten.h"
#include "models/ops/relu.h"

namespace models {

Value mlp(Graph& graph, Value image, const std::vector<int>& layers, const Masks& masks) {
  if (layers.size() < 2) {
    comm::fail(comm::ExitCode::kConfig,
               "model.layers: {} values; mlp needs at least input and output, as in [784, 64, 10]",
               layers.size());
  }
  Value x = flatten(graph, image);
  if (graph.shape(x)[1] != layers[0]) {
    comm::fail(comm::ExitCode::kConfig,
               "model.layers: the first is {}, an image of {} has {} values; set it to {}",
               layers[0], to_string(graph.shape(image)), graph.shape(x)[1], graph.shape(x)[1]);
  }
  for (std::size_t i = 1; i < layers.size(); ++i) {
    const std::string index = std::to_string(2 * (i - 1));
    x = linear_layer(graph, x, index, layers[i]);
    if (i + 1 == layers.size()) break;
    Graph::Scope scope(graph, index);
    x = masked(graph, relu(graph, x), masks);
  }
  return x;
}

}  // namespace models
