#include "models/resnet.h"

#include "models/ops/add.h"
#include "models/ops/max_pool.h"
#include "models/ops/relu.h"

namespace models {
namespace {

struct Named {
  const char* name;
  ResNetKind kind;
};
constexpr Named kNamed[] = {{"resnet18", {18}},
                            {"resnet34", {34}},
                            {"resnet50", {50}},
                            {"resnet101", {101}},
                            {"resnext50_32x4d", {50, 32, 4}}};

struct Block {
  std::int64_t width;     // channels of the 3x3 convolutions
  std::int64_t channels;  // outputs
  int groups;             // of the 3x3 convolutions
  int stride;
  int dilation;
  bool downsample;  // the shortcut is a convolution
};

Value conv_norm(Graph& graph, Value x, const std::string& index, std::int64_t channels, int kernel,
                const ConvAttributes& conv, const LayerOptions& options) {
  const ConvLayer layer{.name = "conv" + index,
                        .channels = channels,
                        .kernel = kernel,
                        .conv = conv,
                        .bias = false,
                        .weight_init = kaiming_fan_out(channels, kernel),
                        .normalised = true};
  return norm_layer(graph, conv_layer(graph, x, layer, options), "bn" + index, options);
}

Value shortcut(Graph& graph, Value x, const Block& block, const LayerOptions& options) {
  if (!block.downsample) return x;
  Graph::Scope scope(graph, "downsample");
  const ConvLayer layer{.name = "0",
                        .channels = block.channels,
                        .kernel = 1,
                        .conv = {.stride = block.stride},
                        .bias = false,
                        .weight_init = kaiming_fan_out(block.channels, 1),
                        .normalised = true};
  return norm_layer(graph, conv_layer(graph, x, layer, options), "1", options);
}

// y = relu(F(x) + shortcut(x)), F of two 3x3 convolutions
Value basic_block(Graph& graph, Value x, const Block& block, const LayerOptions& options) {
  const ConvAttributes first{.stride = block.stride, .padding = block.dilation,
                             .dilation = block.dilation};
  Value y = relu(graph, conv_norm(graph, x, "1", block.width, 3, first, options));
  y = conv_norm(graph, y, "2", block.width, 3, {.padding = 1}, options);
  return relu(graph, add(graph, y, shortcut(graph, x, block, options)));
}

// F of 1x1, 3x3, 1x1 convolutions
Value bottleneck(Graph& graph, Value x, const Block& block, const LayerOptions& options) {
  const ConvAttributes middle{.stride = block.stride,
                              .padding = block.dilation,
                              .dilation = block.dilation,
                              .groups = block.groups};
  Value y = relu(graph, conv_norm(graph, x, "1", block.width, 1, {}, options));
  y = relu(graph, conv_norm(graph, y, "2", block.width, 3, middle, options));
  y = conv_norm(graph, y, "3", block.channels, 1, {}, options);
  return relu(graph, add(graph, y, shortcut(graph, x, block, options)));
}

std::vector<int> blocks_of_stages(int depth) {
  switch (depth) {
    case 18: return {2, 2, 2, 2};
    case 34:
    case 50: return {3, 4, 6, 3};
    case 101: return {3, 4, 23, 3};
  }
  comm::fail(comm::ExitCode::kBug, "ResNet-{}", depth);
}

}  // namespace

ResNetKind resnet_kind(const std::string& backbone) {
  std::string names;
  for (const Named& named : kNamed) {
    if (backbone == named.name) return named.kind;
    names += (names.empty() ? "" : ", ") + std::string(named.name);
  }
  comm::fail(comm::ExitCode::kConfig,
             "model.backbone: '{}' does not exist for this model; use one of {}", backbone, names);
}

std::vector<Value> resnet(Graph& graph, Value image, const ResNetOptions& resnet,
                          LayerOptions options) {
  const ResNetKind& kind = resnet.kind;
  const std::vector<int> blocks = blocks_of_stages(kind.depth);
  const bool basic = kind.depth < 50;
  REQUIRE(!basic || (kind.groups == 1 && kind.width_per_group == 64), "ResNet-{} in {} groups",
          kind.depth, kind.groups);

  options.trainable = resnet.trainable_stages >= 5;
  Value x = relu(graph, conv_norm(graph, image, "1", 64, 7, {.stride = 2, .padding = 3}, options));
  x = max_pool(graph, x, 3, 2, 1);
  std::vector<Value> outputs;
  int dilation = 1;
  for (int stage = 0; stage < 4; ++stage) {
    options.trainable = resnet.trainable_stages >= 4 - stage;
    Graph::Scope layer(graph, "layer" + std::to_string(stage + 1));
    const std::int64_t channels = (basic ? 64 : 256) << stage;
    const std::int64_t width = (std::int64_t{kind.groups} * kind.width_per_group) << stage;
    int stride = stage == 0 ? 1 : 2;
    const int previous = dilation;
    if (stage > 0 && resnet.dilate[stage - 1]) {
      dilation *= stride;
      stride = 1;
    }
    for (int b = 0; b < blocks[stage]; ++b) {
      Graph::Scope block_scope(graph, std::to_string(b));
      const bool changes = stride != 1 || graph.shape(x)[1] != channels;
      const Block block{.width = width,
                        .channels = channels,
                        .groups = kind.groups,
                        .stride = b == 0 ? stride : 1,
                        .dilation = b == 0 ? previous : dilation,
                        .downsample = b == 0 && changes};
      x = basic ? basic_block(graph, x, block, options) : bottleneck(graph, x, block, options);
    }
    outputs.push_back(x);
  }
  return outputs;
}

}  // namespace models
