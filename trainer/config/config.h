#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trainer/config/enums.h"

// The configuration as plain structs, one member a key of the file. A member's initialiser is the
// key's default; "resolved" means that the loader fills the value in when the file does not give it
// (see trainer/config/load.h), so readers find the final value here.
namespace trainer {

// Of the network's input, height first as in data.size.
struct InputSize {
  int height = 0, width = 0;  // pixels
  bool operator==(const InputSize&) const = default;
};

struct Anchors {
  std::vector<int> sizes{32, 64, 128, 256, 512};  // pixels, one a pyramid level P3..P7
  std::vector<double> ratios{0.5, 1, 2};          // height / width
  bool operator==(const Anchors&) const = default;
};

struct ModelConfig {
  ModelName name = ModelName::kRetinanet;
  Backbone backbone = Backbone::kResnet50;
  FcnHead head = FcnHead::kDilated;
  bool aux = false;                // fcn dilated: auxiliary head on layer3, weight 0.5
  std::vector<int> layers;         // mlp: units, input first, classes last
  std::optional<int> num_classes;  // absent: from the data. Detection, segmentation: 0 = background
  Norm norm = Norm::kBatch;
  double norm_eps = 1e-5;
  int trainable_stages = 5;  // 0..5 from the output side, as torchvision counts them
  Anchors anchors;           // retinanet
  double dropout = 0;        // resolved: fcn dilated 0.1, fcn on vgg16 0.5, else 0
  Deconvolution deconvolution = Deconvolution::kFixed;  // fcn 32s, 16s, 8s: bilinear kernels
  LossReduction loss_reduction = LossReduction::kMean;  // fcn: over the valid pixels
  double label_smoothing = 0;    // classifiers: share of the target spread over all classes
  std::string backbone_weights;  // HDF5 file, "" = none
  bool operator==(const ModelConfig&) const = default;
};

// One named part of the data set; paths are relative to data.root or absolute, "" = absent.
struct SplitConfig {
  std::string images;            // folder
  std::string annotations;       // coco: JSON file; voc: folder of XML
  std::string labels;            // masks, voc segmentation: folder of label images
  std::string list;              // file: "image label" a line (masks), a stem a line (voc)
  std::optional<int64_t> limit;  // first images only; shapes: how many images there are
  bool operator==(const SplitConfig&) const = default;
};

struct DataConfig {
  DataFormat format = DataFormat::kCoco;
  std::string root = ".";                     // relative to the working directory
  std::map<std::string, SplitConfig> splits;  // keys data.train, data.val, data.test, ...
  std::vector<std::string> classes;           // without background
  std::vector<std::string> only;              // names of the classes kept, empty = all
  int ignore = 255;                           // label maps: neither trained nor scored
  LabelMap label_map = LabelMap::kContiguous;
  std::vector<InputSize> size{{512, 512}};  // shape buckets; resolved for mnist: 28x28
  Resize resize = Resize::kFit;
  int short_side = 0;  // crop: the short side that `scale` multiplies, pixels; 0 = the image's own
  bool antialias = true;
  std::vector<double> mean{0.485, 0.456, 0.406};  // of pixel / 255; resolved for mnist: [0]
  std::vector<double> std{0.229, 0.224, 0.225};   // resolved for mnist: [1]
  double flip = 0;                                // probability, horizontal
  double vflip = 0;                               // probability, vertical
  std::vector<double> scale{1, 1};  // training: factor drawn from [low, high], log-uniform
  double shift = 0;        // training: random move of the content, largest share of the size
  double photometric = 0;  // training: brightness, contrast, saturation in [1-s, 1+s], hue +-s/10
  bool shuffle = true;
  int max_boxes = 512;  // an image
  OnError on_error = OnError::kStop;
  int64_t skip_limit = 100;  // images that on_error: skip may leave out
  bool operator==(const DataConfig&) const = default;
};

struct TrainConfig {
  int batch = 16;             // images a step over all ranks
  int micro_batch = 0;        // images a gradient unit, divides batch; resolved: batch / 8 if whole
  std::optional<int> epochs;  // exactly one of epochs and steps
  std::optional<int64_t> steps;
  int64_t seed = 1;
  int early_stop = 0;  // evaluations in a row without a better checkpoint.best; 0 = off
  bool operator==(const TrainConfig&) const = default;
};

struct OptimizerConfig {
  OptimizerName name = OptimizerName::kSgd;
  double lr = 0.01;
  double momentum = 0;                    // sgd, rmsprop, lars
  bool nesterov = false;                  // sgd
  std::vector<double> betas{0.9, 0.999};  // adam, adamw
  double eps = 1e-8;                      // adam, adamw, rmsprop, lars; resolved for adagrad: 1e-10
  double alpha = 0.99;                    // rmsprop
  double trust = 0.001;                   // lars: eta of You et al., 1708.03888
  bool operator==(const OptimizerConfig&) const = default;
};

struct RuleMatch {
  std::string name;                 // glob over the parameter's name, "" = any
  std::string module;               // glob over the module's name, "" = any
  std::vector<ParameterKind> kind;  // empty = any
  std::optional<bool> scale_invariant;
  bool operator==(const RuleMatch&) const = default;
};

struct Rule {
  RuleMatch match;
  std::optional<double> l2, l1, lr_scale;  // absent: regularization.l2, .l1, and 1
  std::optional<DecayMode> mode;           // absent: regularization.mode
  std::string origin;  // "file:line", for messages; not part of the rule's identity
  bool operator==(const Rule& other) const {
    return match == other.match && l2 == other.l2 && l1 == other.l1 && lr_scale == other.lr_scale &&
           mode == other.mode;
  }
};

struct RegularizationConfig {
  double l2 = 0;
  double l1 = 0;
  DecayMode mode = DecayMode::kCoupled;  // resolved for adamw: decoupled
  Convention convention = Convention::kHalf;
  DecayScale decay_scale = DecayScale::kLr;           // decoupled only
  DecaySchedule schedule = DecaySchedule::kConstant;  // lambda from 1x to end_factor x over the run
  double end_factor = 0;
  std::optional<std::vector<Rule>> rules;  // absent: built-in exemptions; empty: everything decays
  bool operator==(const RegularizationConfig&) const = default;
};

struct ScheduleConfig {
  int64_t warmup_steps = 0;
  double warmup_factor = 0.001;  // of the learning rate at step 0, then linear
  ScheduleType type = ScheduleType::kConstant;
  std::vector<int64_t> milestones;  // step: in epochs with train.epochs, in steps with train.steps
  double gamma = 0.1;               // step
  double power = 0.9;               // poly
  double min_factor = 0;            // cosine, poly: share of the learning rate at the end
  bool operator==(const ScheduleConfig&) const = default;
};

struct ClipConfig {
  double norm = 0;  // of the whole gradient; 0 = off
  bool operator==(const ClipConfig&) const = default;
};

struct EmaConfig {
  double decay = 0;  // a step; 0 = off
  bool operator==(const EmaConfig&) const = default;
};

struct RuntimeConfig {
  DeviceChoice device = DeviceChoice::kAuto;
  Precision precision = Precision::kAuto;
  int threads = 0;         // a rank; 0 = resolved at the first start by the trainer
  int loader_threads = 0;  // a rank, decoding; 0 = chosen by the loader
  ConvChoice conv = ConvChoice::kAuto;
  Reduction reduction = Reduction::kAuto;
  bool share_gpu = false;            // several ranks on one GPU, gradients through the host
  Capture capture = Capture::kAuto;  // CUDA graphs: the step, or what lies between communication
  double stall_seconds = 30;         // a rank without progress for longer is reported; 0 = never
  bool operator==(const RuntimeConfig&) const = default;
};

struct CheckpointConfig {
  int64_t every_steps = 500;  // 0 = off
  double every_minutes = 0;   // 0 = off
  int keep = 3;
  std::string best;  // "task/metric"; resolved: bbox/AP, semantic/mIoU, classification/accuracy
  bool operator==(const CheckpointConfig&) const = default;
};

struct EvalConfig {
  int every_epochs = 1;     // 0 = off
  int64_t every_steps = 0;  // 0 = off
  double score_threshold = 0.05;
  double nms = 0.5;      // IoU
  int detections = 300;  // an image
  EvalWeights weights = EvalWeights::kRaw;
  std::vector<InputSize> size;  // shape buckets, of predictions too; empty: data.size
  bool operator==(const EvalConfig&) const = default;
};

struct LogConfig {
  int64_t every_steps = 20;
  bool operator==(const LogConfig&) const = default;
};

struct Config {
  std::string name;  // of the run, default run folder runs/NAME; resolved: stem of the file
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  OptimizerConfig optimizer;
  RegularizationConfig regularization;
  ScheduleConfig schedule;
  ClipConfig clip;
  EmaConfig ema;
  RuntimeConfig runtime;
  CheckpointConfig checkpoint;
  EvalConfig eval;
  LogConfig log;
  bool operator==(const Config&) const = default;
};

}  // namespace trainer
