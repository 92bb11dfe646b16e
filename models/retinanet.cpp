// RetinaNet (Lin et al. 2017) as torchvision's v1: ResNet, feature pyramid P3..P7, two towers of
// four 3x3 convolutions shared by all levels, focal loss and L1.
#include <cmath>

#include "models/feature_pyramid.h"
#include "models/model.h"
#include "models/ops/detection_loss.h"
#include "models/ops/relu.h"
#include "models/resnet.h"

namespace models {
namespace {

constexpr std::int64_t kChannels = 256;
constexpr int kTowerDepth = 4;
constexpr float kPrior = 0.01f;  // probability of an object at initialisation

class RetinaNet final : public Model {
 public:
  explicit RetinaNet(const ModelOptions& options) : options_(options) {}

  Task task() const override { return Task::kDetection; }

  void training(Graph& graph, const BatchShape& shape) const override {
    const Heads heads = network(graph, shape, true);
    const Shape per_image = {shape.images, shape.max_boxes};
    const Value boxes = graph.input("boxes", {Type::kF32, {per_image[0], per_image[1], 4}});
    const Value labels = graph.input("labels", {Type::kI32, per_image});
    const Value count = graph.input("count", {Type::kI32, {shape.images}});
    Graph::Scope scope(graph, "loss");
    const Matches matches = match_anchors(graph, heads.anchors, boxes, labels, count, 0.4f, 0.5f);
    graph.loss("classification",
               focal_loss(graph, heads.anchors, heads.logits, matches, options_.num_classes), 1.0f);
    graph.loss("bbox_regression", box_loss(graph, heads.anchors, heads.deltas, boxes, matches),
               1.0f);
  }

  void inference(Graph& graph, const BatchShape& shape) const override {
    const Heads heads = network(graph, shape, false);
    DetectOptions detection = options_.detect;
    detection.num_classes = options_.num_classes;
    const Detections found = detect(graph, heads.anchors, heads.logits, heads.deltas, shape.height,
                                    shape.width, detection);
    graph.output("boxes", found.boxes);
    graph.output("scores", found.scores);
    graph.output("labels", found.labels);
    graph.output("count", found.count);
  }

 private:
  struct Heads {
    std::shared_ptr<const AnchorGrid> anchors;
    std::vector<Value> logits;  // a level: (N, 9 K, H, W)
    std::vector<Value> deltas;  // a level: (N, 36, H, W)
  };

  Heads network(Graph& graph, const BatchShape& shape, bool training) const {
    const Value image = graph.input(
        "image", {Type::kF32, {shape.images, shape.channels, shape.height, shape.width}});
    const LayerOptions layers{.norm = options_.norm, .norm_eps = options_.norm_eps,
                              .training = training};
    const std::vector<Value> levels = pyramid(graph, image, layers);
    std::vector<Shape> maps;
    for (Value level : levels) maps.push_back(graph.shape(level));
    Heads heads{make_anchors(shape.height, shape.width, maps, options_.anchor_sizes,
                             options_.anchor_ratios)};
    const int anchors = heads.anchors->per_cell;
    const float prior_bias = -std::log((1.0f - kPrior) / kPrior);
    Graph::Scope scope(graph, "head");
    heads.logits = tower(graph, levels, {"classification_head", "cls_logits"},
                         anchors * options_.num_classes, prior_bias, layers);
    heads.deltas = tower(graph, levels, {"regression_head", "bbox_reg"}, anchors * 4, 0.0f, layers);
    return heads;
  }

  std::vector<Value> pyramid(Graph& graph, Value image, const LayerOptions& layers) const {
    Graph::Scope scope(graph, "backbone");
    std::vector<Value> stages;
    {
      Graph::Scope body(graph, "body");
      const ResNetOptions resnet_options{resnet_kind(options_.backbone),
                                         options_.trainable_stages};
      stages = resnet(graph, image, resnet_options, layers);
    }
    Graph::Scope fpn(graph, "fpn");
    return feature_pyramid(graph, {stages[1], stages[2], stages[3]}, kChannels, layers);
  }

  struct TowerNames {
    std::string head, output;
  };
  std::vector<Value> tower(Graph& graph, const std::vector<Value>& levels, const TowerNames& names,
                           std::int64_t channels, float bias, const LayerOptions& layers) const {
    Graph::Scope scope(graph, names.head);
    const Initializer normal{Initializer::Rule::kNormal, 0.0f, 0.01f};
    std::vector<Value> outputs;
    for (Value x : levels) {
      for (int i = 0; i < kTowerDepth; ++i) {
        const ConvLayer layer{.name = "conv." + std::to_string(i) + ".0", .channels = kChannels,
                              .conv = {.padding = 1}, .weight_init = normal};
        x = relu(graph, conv_layer(graph, x, layer, layers));
      }
      const ConvLayer last{.name = names.output,
                           .channels = channels,
                           .conv = {.padding = 1},
                           .weight_init = normal,
                           .bias_init = {Initializer::Rule::kConstant, bias}};
      outputs.push_back(conv_layer(graph, x, last, layers));
    }
    return outputs;
  }

  ModelOptions options_;
};

}  // namespace

std::unique_ptr<Model> make_retinanet(const ModelOptions& options) {
  return std::make_unique<RetinaNet>(options);
}

}  // namespace models
