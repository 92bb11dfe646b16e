#include "models/fcn_heads.h"

#include "models/model.h"
#include "models/ops/add.h"
#include "models/ops/conv_transpose2d.h"
#include "models/ops/crop.h"
#include "models/ops/relu.h"
#include "models/ops/scale.h"
#include "models/resnet.h"
#include "models/vgg.h"

namespace models {
namespace {

// A transposed convolution of a head: factor 2 with kernel 4 and so on.
struct Upscore {
  std::string name;
  int factor;
  int padding;
};

// Where a finer map of scores is added.
struct Skip {
  std::string name;
  Value features;
  float scale;
  std::int64_t offset;  // of the part of its scores that lies under the coarser ones
};

// What the head does after score_fr, coarse to fine.
struct Ladder {
  std::vector<Skip> skips;
  std::vector<Upscore> doublings;  // one a skip
  Upscore last;
  std::int64_t last_offset;
};

class Head {
 public:
  Head(Graph& graph, const FcnHeadOptions& fcn, const LayerOptions& layers, Initializer score)
      : graph_(graph), fcn_(fcn), layers_(layers), score_(score) {}

  Value score(Value x, const std::string& name) const {
    const ConvLayer layer{
        .name = name, .channels = fcn_.num_classes, .kernel = 1, .weight_init = score_};
    return conv_layer(graph_, x, layer, layers_);
  }

  // Scores at the size of `image`.
  Value climb(Value scores, const Ladder& ladder, const Shape& image) const {
    for (std::size_t i = 0; i < ladder.skips.size(); ++i) {
      const Skip& skip = ladder.skips[i];
      const Value coarse = upscore(scores, ladder.doublings[i]);
      Value features = skip.features;
      if (skip.scale != 1.0f) features = scale(graph_, features, skip.scale);
      const Value fine = score(features, skip.name);
      const Shape &a = graph_.shape(coarse), &b = graph_.shape(fine);
      const std::int64_t height = std::min(a[2], b[2] - skip.offset);
      const std::int64_t width = std::min(a[3], b[3] - skip.offset);
      scores =
          add(graph_, cropped(coarse, 0, height, width), cropped(fine, skip.offset, height, width));
    }
    return cropped(upscore(scores, ladder.last), ladder.last_offset, image[2], image[3]);
  }

 private:
  Value upscore(Value x, const Upscore& layer) const {
    const int kernel = 2 * layer.factor;
    const ConvTransposeAttributes attributes{.stride = layer.factor, .padding = layer.padding};
    Graph::Scope scope(graph_, layer.name);
    if (!fcn_.learned_deconvolution) return upsample_deconvolution(graph_, x, kernel, attributes);
    const std::int64_t channels = fcn_.num_classes;
    const Value weight = graph_.parameter({graph_.qualified("weight"),
                                           {channels, channels, kernel, kernel},
                                           ParameterKind::kWeight,
                                           {Initializer::Rule::kBilinear}});
    return conv_transpose2d(graph_, x, weight, attributes);
  }
  Value cropped(Value x, std::int64_t offset, std::int64_t height, std::int64_t width) const {
    const Shape& s = graph_.shape(x);
    REQUIRE(offset + height <= s[2] && offset + width <= s[3], "crop of {} at {} to {}x{}",
            to_string(s), offset, height, width);
    if (s[2] == height && s[3] == width) return x;
    return crop(graph_, x, {offset, offset, height, width});
  }

  Graph& graph_;
  FcnHeadOptions fcn_;
  LayerOptions layers_;
  Initializer score_;
};

int num_skips(const std::string& head) {
  if (head == "32s") return 0;
  if (head == "16s") return 1;
  if (head == "8s") return 2;
  comm::fail(comm::ExitCode::kConfig,
             "model.head: '{}' does not exist; use dilated, 32s, 16s or 8s", head);
}

Ladder ladder(const std::string& head, std::vector<Skip> skips) {
  const int used = num_skips(head);
  skips.resize(static_cast<std::size_t>(used));
  if (used == 0) return {{}, {}, {"upscore", 32, 0}, 19};
  if (used == 1) return {std::move(skips), {{"upscore2", 2, 0}}, {"upscore16", 16, 0}, 27};
  return {std::move(skips), {{"upscore2", 2, 0}, {"upscore_pool4", 2, 0}}, {"upscore8", 8, 0}, 31};
}

Value vgg_scores(Graph& graph, Value image, const FcnHeadOptions& fcn, const Masks& masks,
                 const LayerOptions& layers) {
  constexpr std::int64_t kPadding = 100 - 1;  // the first convolution pads by one
  constexpr std::int64_t kUnits = 4096;
  const Shape size = graph.shape(image);
  std::vector<Value> pools;
  {
    Graph::Scope scope(graph, "backbone");
    const Value padded =
        crop(graph, image, {-kPadding, -kPadding, size[2] + 2 * kPadding, size[3] + 2 * kPadding});
    pools = vgg16(graph, padded, {fcn.trainable_stages, true}, layers);
  }
  Value x = pools[4];
  for (const auto& [name, kernel] : {std::pair{"fc6", 7}, std::pair{"fc7", 1}}) {
    const auto fan_in = static_cast<float>(graph.shape(x)[1] * kernel * kernel);
    const ConvLayer layer{.name = name,
                          .channels = kUnits,
                          .kernel = kernel,
                          .weight_init = {Initializer::Rule::kKaimingNormal, fan_in}};
    x = relu(graph, conv_layer(graph, x, layer, layers));
    Graph::Scope scope(graph, name);
    x = masked(graph, x, masks);
  }
  const Head head(graph, fcn, layers, {});
  const Ladder steps = ladder(
      fcn.head, {{"score_pool4", pools[3], 0.01f, 5}, {"score_pool3", pools[2], 0.0001f, 9}});
  return head.climb(head.score(x, "score_fr"), steps, size);
}

Value resnet_scores(Graph& graph, Value image, const FcnHeadOptions& fcn, const Masks& masks,
                    const LayerOptions& layers) {
  std::vector<Value> stages;
  {
    Graph::Scope scope(graph, "backbone");
    stages = resnet(graph, image, {resnet_kind(fcn.backbone), fcn.trainable_stages}, layers);
  }
  const Head head(graph, fcn, layers, {Initializer::Rule::kNormal, 0.0f, 0.01f});
  Ladder steps =
      ladder(fcn.head, {{"score_pool4", stages[2], 1.0f, 0}, {"score_pool3", stages[1], 1.0f, 0}});
  // centred: output size = factor times input size
  for (Upscore& doubling : steps.doublings) doubling.padding = doubling.factor / 2;
  steps.last.padding = steps.last.factor / 2;
  steps.last_offset = 0;
  Value x = stages[3];
  {
    Graph::Scope scope(graph, "score_fr");
    x = masked(graph, x, masks);
  }
  return head.climb(head.score(x, "score_fr"), steps, graph.shape(image));
}

}  // namespace

Value fcn_head(Graph& graph, Value image, const FcnHeadOptions& fcn, const Masks& masks,
               const LayerOptions& layers) {
  return fcn.backbone == "vgg16" ? vgg_scores(graph, image, fcn, masks, layers)
                                 : resnet_scores(graph, image, fcn, masks, layers);
}

}  // namespace models
