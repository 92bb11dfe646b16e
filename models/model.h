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
  std::uint64_t seed = 1;  // of dropout's masks
  float dropout = 0.0f;    // probability of a zero
  // Detection.
  std::vector<int> anchor_sizes;
  std::vector<double> anchor_ratios;
  DetectOptions detect;
  // Segmentation.
  std::string head = "dilated";        // "dilated", "32s", "16s", "8s"
  bool aux = false;                    // dilated: auxiliary head on layer3, weight 0.5
  bool learned_deconvolution = false;  // else bilinear kernels that never change
  bool loss_sum = false;               // over the valid pixels, else their mean
  int ignore = 255;                    // label of a pixel without a class
  // Classification.
  std::vector<int> layers;  // mlp: units, input first, classes last
  float label_smoothing = 0.0f;
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
  // Inputs: image f32 (N, C, H, W) and, where a layer draws, sample_id i64 (N) and epoch i32 (N);
  //   detection: boxes, labels, count; losses classification, bbox_regression
  //   segmentation: label_map i32 (N, H, W); losses out and, with the auxiliary head, aux
  //   classification: label i32 (N); loss classification
  virtual void training(Graph& graph, const BatchShape& shape) const = 0;
  // Outputs:
  //   detection: boxes, scores, labels, count
  //   segmentation: out f32 (N, K, H, W), logits at the size of the input
  //   classification: logits f32 (N, K)
  virtual void inference(Graph& graph, const BatchShape& shape) const = 0;
};

// Errors: kConfig for a combination that does not exist.
std::unique_ptr<Model> make_model(const ModelOptions& options);
std::unique_ptr<Model> make_retinanet(const ModelOptions& options);
std::unique_ptr<Model> make_fcn(const ModelOptions& options);
std::unique_ptr<Model> make_classifier(const ModelOptions& options);  // mlp, cnn, classifier

}  // namespace models
