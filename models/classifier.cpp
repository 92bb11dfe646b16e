// Classifiers: one softmax cross entropy on logits, whatever the network. The network ends in
// logits, never in a softmax, so that none is applied twice.
#include "models/classifier.h"

#include <cmath>

#include "models/cnn.h"
#include "models/mlp.h"
#include "models/model.h"
#include "models/ops/cross_entropy.h"
#include "models/ops/dropout.h"
#include "models/ops/flatten.h"
#include "models/ops/global_avg_pool.h"
#include "models/ops/linear.h"
#include "models/ops/relu.h"
#include "models/resnet.h"
#include "models/vgg.h"

namespace models {
namespace {

// torchvision's VGG head: classifier.0, .3, .6, each ReLU followed by dropout.
Value vgg_head(Graph& graph, Value x, int num_classes, const Masks& masks) {
  Graph::Scope scope(graph, "classifier");
  const Initializer normal{Initializer::Rule::kNormal, 0.0f, 0.01f};
  x = flatten(graph, x);
  for (const char* name : {"0", "3"}) {
    x = relu(graph, linear_layer(graph, x, {name, 4096, normal}));
    Graph::Scope layer(graph, name);
    x = masked(graph, x, masks);
  }
  return linear_layer(graph, x, {"6", num_classes, normal});
}

class Classifier final : public Model {
 public:
  explicit Classifier(const ModelOptions& options) : options_(options) {}

  Task task() const override { return Task::kClassification; }

  void training(Graph& graph, const BatchShape& shape) const override {
    Masks masks{options_.dropout, options_.seed};
    if (masks.probability > 0) {
      masks.sample_id = graph.input("sample_id", {Type::kI64, {shape.images}});
      masks.epoch = graph.input("epoch", {Type::kI32, {shape.images}});
    }
    const Value out = as_map(graph, logits(graph, shape, masks, true));
    const Value label = graph.input("label", {Type::kI32, {shape.images}});
    Graph::Scope scope(graph, "loss");
    graph.loss("classification",
               cross_entropy(graph, out, label, {.label_smoothing = options_.label_smoothing}),
               1.0f);
  }

  void inference(Graph& graph, const BatchShape& shape) const override {
    graph.output("logits", logits(graph, shape, {}, false));
  }

 private:
  // (N, K)
  Value logits(Graph& graph, const BatchShape& shape, const Masks& masks, bool training) const {
    const Value image = graph.input(
        "image", {Type::kF32, {shape.images, shape.channels, shape.height, shape.width}});
    if (options_.name == "mlp") return mlp(graph, image, options_.layers, masks);
    if (options_.name == "cnn") return cnn(graph, image, options_.num_classes, masks);
    const LayerOptions layers{
        .norm = options_.norm, .norm_eps = options_.norm_eps, .training = training};
    if (options_.backbone == "vgg16") return vgg(graph, image, masks, layers);
    const ResNetOptions resnet_options{resnet_kind(options_.backbone), options_.trainable_stages};
    const Value x = global_avg_pool(graph, resnet(graph, image, resnet_options, layers).back());
    return linear_layer(graph, masked(graph, x, masks), "fc", options_.num_classes);
  }

  Value vgg(Graph& graph, Value image, const Masks& masks, const LayerOptions& layers) const {
    const Shape& s = graph.shape(image);
    if (s[2] != 224 || s[3] != 224) {  // elsewhere torchvision averages adaptively to 7x7
      comm::fail(comm::ExitCode::kConfig,
                 "data.size: [{}, {}]; the linear layers of vgg16 need [224, 224]", s[2], s[3]);
    }
    const VggOptions vgg_options{.trainable_stages = options_.trainable_stages};
    const Value x = vgg16(graph, image, vgg_options, layers).back();
    return vgg_head(graph, x, options_.num_classes, masks);
  }

  ModelOptions options_;
};

}  // namespace

Value masked(Graph& graph, Value x, const Masks& masks) {
  if (masks.probability <= 0) return x;
  return dropout(graph, x, masks.probability, masks.seed, masks.sample_id, masks.epoch);
}

Initializer uniform_by_fan(std::int64_t fan_in) {
  const float bound = 1.0f / std::sqrt(static_cast<float>(fan_in));
  return {Initializer::Rule::kUniform, -bound, bound};
}

Value linear_layer(Graph& graph, Value x, const LinearLayer& layer) {
  Graph::Scope scope(graph, layer.name);
  const Value weight = graph.parameter({graph.qualified("weight"),
                                        {layer.outputs, graph.shape(x)[1]},
                                        ParameterKind::kWeight,
                                        layer.weight_init});
  const Value bias = graph.parameter(
      {graph.qualified("bias"), {layer.outputs}, ParameterKind::kBias, layer.bias_init});
  return linear(graph, x, weight, bias);
}

Value linear_layer(Graph& graph, Value x, const std::string& name, std::int64_t outputs) {
  const Initializer init = uniform_by_fan(graph.shape(x)[1]);
  return linear_layer(graph, x, {name, outputs, init, init});
}

std::unique_ptr<Model> make_classifier(const ModelOptions& options) {
  return std::make_unique<Classifier>(options);
}

}  // namespace models
