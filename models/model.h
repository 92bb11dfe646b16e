#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/graph/graph.h"
#include "models/layers.h"
#include "models/ops/detect.h"

namespace models {

enum class Task { kDetection, kSegmentation, kClassification };

// What a run asks of a model; the trainer fills it from the configuration.
struct ModelOptions {
  std::string name;      // "retinanet", "fcn", "mlp", "cnn", "classifier"
  std::string backbone;  // "resnet50"
  int num_classes = 0;   // detection, segmentation: with background
  NormKind norm = NormKind::kBatch;
  float norm_eps = 1e-5f;
  int trainable_stages = 5;
  std::vector<int> anchor_sizes;
  std::vector<double> anchor_ratios;
  DetectOptions detect;
};

// Shape of one micro-batch.
struct BatchShape {
  std::int64_t images = 1;
  std::int64_t channels = 3;
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t max_boxes = 1;
};

// A network: adds its ops to a graph. Graph inputs have the names of the batch's fields. A training
// graph names its losses, an inference graph its outputs; both name parameters as torchvision.
class Model {
 public:
  virtual ~Model() = default;
  virtual Task task() const = 0;
  // Inputs: image, boxes, labels, count (detection). Losses: classification, bbox_regression.
  virtual void training(Graph& graph, const BatchShape& shape) const = 0;
  // Outputs: boxes, scores, labels, count (detection).
  virtual void inference(Graph& graph, const BatchShape& shape) const = 0;
};

// Errors: kConfig for a combination that does not exist.
std::unique_ptr<Model> make_model(const ModelOptions& options);
std::unique_ptr<Model> make_retinanet(const ModelOptions& options);

// Depth of "resnet50"; kConfig for anything that is no ResNet.
int resnet_depth(const std::string& backbone);

}  // namespace models
