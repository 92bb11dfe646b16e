#include "models/vgg.h"

#include "models/ops/max_pool.h"
#include "models/ops/relu.h"

namespace models {

std::vector<Value> vgg16(Graph& graph, Value image, const VggOptions& vgg,
                         const LayerOptions& options) {
  constexpr int kConvolutions[] = {2, 2, 3, 3, 3};
  constexpr std::int64_t kChannels[] = {64, 128, 256, 512, 512};
  Graph::Scope scope(graph, "features");
  LayerOptions layers = options;
  Value x = image;
  std::vector<Value> pools;
  int index = 0;  // torchvision counts convolutions, ReLUs and poolings
  for (int stage = 0; stage < 5; ++stage) {
    layers.trainable = vgg.trainable_stages >= 5 - stage;
    for (int i = 0; i < kConvolutions[stage]; ++i, index += 2) {
      const ConvLayer layer{.name = std::to_string(index),
                            .channels = kChannels[stage],
                            .conv = {.padding = 1},
                            .weight_init = kaiming_fan_out(kChannels[stage], 3)};
      x = relu(graph, conv_layer(graph, x, layer, layers));
    }
    x = max_pool(graph, x, 2, 2, 0, vgg.ceil_pooling);
    pools.push_back(x);
    ++index;
  }
  return pools;
}

}  // namespace models
