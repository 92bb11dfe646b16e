// FCN for semantic segmentation: torchvision's (head "dilated"), and the paper's heads with
// transposed convolutions (models/fcn_heads.h).
#include "models/fcn.h"

#include "models/fcn_heads.h"
#include "models/model.h"
#include "models/ops/cross_entropy.h"
#include "models/ops/relu.h"
#include "models/ops/resize_bilinear.h"

namespace models {
namespace {

constexpr float kAuxWeight = 0.5f;

// torchvision's FCNHead at the resolution of x. PyTorch's default initialisation.
Value fcn_classifier(Graph& graph, Value x, std::int64_t num_classes, const Masks& masks,
                     const LayerOptions& layers) {
  const std::int64_t inputs = graph.shape(x)[1], channels = inputs / 4;
  const ConvLayer first{.name = "0",
                        .channels = channels,
                        .conv = {.padding = 1},
                        .bias = false,
                        .weight_init = uniform_by_fan(inputs * 9),
                        .normalised = true};
  x = relu(graph, norm_layer(graph, conv_layer(graph, x, first, layers), "1", layers));
  {
    Graph::Scope scope(graph, "3");
    x = masked(graph, x, masks);
  }
  const ConvLayer last{.name = "4",
                       .channels = num_classes,
                       .kernel = 1,
                       .weight_init = uniform_by_fan(channels),
                       .bias_init = uniform_by_fan(channels)};
  return conv_layer(graph, x, last, layers);
}

// Declares the state of the auxiliary head, so that checkpoints hold it, without computing it.
void declare_aux(Graph& graph, const ValueSpec& features, std::int64_t num_classes,
                 const LayerOptions& layers) {
  Graph unused;
  Graph::Scope scope(unused, graph.qualified("aux_classifier"));
  fcn_classifier(unused, unused.input("features", features), num_classes, {}, layers);
  for (const Parameter& parameter : unused.parameters()) graph.parameter(parameter);
  for (const std::string& counter : unused.counters()) graph.counter(counter);
}

class Fcn final : public Model {
 public:
  explicit Fcn(const ModelOptions& options) : options_(options) {}

  Task task() const override { return Task::kSegmentation; }

  void training(Graph& graph, const BatchShape& shape) const override {
    Masks masks{options_.dropout, options_.seed};
    if (masks.probability > 0) {
      masks.sample_id = graph.input("sample_id", {Type::kI64, {shape.images}});
      masks.epoch = graph.input("epoch", {Type::kI32, {shape.images}});
    }
    const FcnLogits logits = network(graph, shape, masks, true);
    const Value labels =
        graph.input("label_map", {Type::kI32, {shape.images, shape.height, shape.width}});
    const CrossEntropyAttributes attributes{.ignore = options_.ignore,
                                            .label_smoothing = options_.label_smoothing,
                                            .sum = options_.loss_sum};
    Graph::Scope scope(graph, "loss");
    graph.loss("out", cross_entropy(graph, logits.out, labels, attributes), 1.0f);
    if (logits.aux) {
      graph.loss("aux", cross_entropy(graph, *logits.aux, labels, attributes), kAuxWeight);
    }
  }

  void inference(Graph& graph, const BatchShape& shape) const override {
    graph.output("out", network(graph, shape, {}, false).out);
  }

 private:
  FcnLogits network(Graph& graph, const BatchShape& shape, const Masks& masks,
                    bool training) const {
    const Value image = graph.input(
        "image", {Type::kF32, {shape.images, shape.channels, shape.height, shape.width}});
    const LayerOptions layers{
        .norm = options_.norm, .norm_eps = options_.norm_eps, .training = training};
    if (options_.head == "dilated") {
      const DilatedFcnOptions fcn{resnet_kind(options_.backbone), options_.num_classes,
                                  options_.trainable_stages, options_.aux};
      return dilated_fcn(graph, image, fcn, masks, layers);
    }
    const FcnHeadOptions fcn{options_.head, options_.backbone, options_.num_classes,
                             options_.trainable_stages, options_.learned_deconvolution};
    return {fcn_head(graph, image, fcn, masks, layers), {}};
  }

  ModelOptions options_;
};

}  // namespace

FcnLogits dilated_fcn(Graph& graph, Value image, const DilatedFcnOptions& fcn, const Masks& masks,
                      const LayerOptions& layers) {
  const Shape size = graph.shape(image);
  std::vector<Value> stages;
  {
    Graph::Scope scope(graph, "backbone");
    const ResNetOptions resnet_options{fcn.backbone, fcn.trainable_stages, {false, true, true}};
    stages = resnet(graph, image, resnet_options, layers);
  }
  const auto head = [&](const char* name, Value x) {
    Graph::Scope scope(graph, name);
    x = fcn_classifier(graph, x, fcn.num_classes, masks, layers);
    return resize_bilinear(graph, x, size[2], size[3]);
  };
  FcnLogits logits{head("classifier", stages[3]), {}};
  if (fcn.aux && layers.training) logits.aux = head("aux_classifier", stages[2]);
  if (fcn.aux && !layers.training) {
    declare_aux(graph, graph.spec(stages[2]), fcn.num_classes, layers);
  }
  return logits;
}

std::unique_ptr<Model> make_fcn(const ModelOptions& options) {
  if (options.head == "dilated" &&
      (options.backbone == "vgg16" || resnet_kind(options.backbone).depth < 50)) {
    comm::fail(comm::ExitCode::kConfig,
               "model.backbone: '{}' has no dilated form; use resnet50, resnet101 or "
               "resnext50_32x4d, or model.head 32s, 16s or 8s",
               options.backbone);
  }
  return std::make_unique<Fcn>(options);
}

}  // namespace models
