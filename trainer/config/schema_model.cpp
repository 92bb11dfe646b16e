#include "trainer/config/schema.h"

namespace trainer {
namespace {

bool is(const Config& c, ModelName name) { return c.model.name == name; }

bool strided_fcn(const Config& c) {
  return is(c, ModelName::kFcn) && c.model.head != FcnHead::kDilated;
}

bool has_backbone(const Config& c) { return !is(c, ModelName::kMlp) && !is(c, ModelName::kCnn); }

bool has_resnet(const Config& c) { return has_backbone(c) && c.model.backbone != Backbone::kVgg16; }

const Applies kWithBackbone{"retinanet, fcn, classifier", has_backbone};
const Applies kWithResnet{"ResNet backbones", has_resnet};
const Applies kRetinanet{"retinanet", [](const Config& c) { return is(c, ModelName::kRetinanet); }};
const Applies kFcn{"fcn", [](const Config& c) { return is(c, ModelName::kFcn); }};
const Applies kMlp{"mlp", [](const Config& c) { return is(c, ModelName::kMlp); }};
const Applies kDilatedFcn{"fcn with head dilated", [](const Config& c) {
                            return is(c, ModelName::kFcn) && c.model.head == FcnHead::kDilated;
                          }};
const Applies kStridedFcn{"fcn with head 32s, 16s or 8s", strided_fcn};
const Applies kWithoutHead{"all but retinanet",
                           [](const Config& c) { return !is(c, ModelName::kRetinanet); }};
const Applies kClassifiers{"mlp, cnn, classifier", [](const Config& c) {
                             return !is(c, ModelName::kRetinanet) && !is(c, ModelName::kFcn);
                           }};

constexpr KeyClass kIdentity = KeyClass::kIdentity;

}  // namespace

std::vector<Row<Config>> model_rows() {
  return {
      RIDGELINE_ROW(Config, name, .meaning = "name of the run; default run folder runs/NAME",
                    .resolved = "the file's stem"),
      RIDGELINE_ROW(Config, model.name, .cls = kIdentity, .meaning = "what is trained"),
      RIDGELINE_ROW(Config, model.backbone, .cls = kIdentity, .meaning = "feature extractor",
                    .applies = kWithBackbone, .strict = true),
      RIDGELINE_ROW(Config, model.head, .cls = kIdentity,
                    .meaning = "dilated: torchvision's (resnet50, resnet101, resnext50_32x4d); "
                               "32s, 16s, 8s: the paper's transposed convolutions with skips",
                    .applies = kFcn, .strict = true),
      RIDGELINE_ROW(Config, model.aux, .cls = kIdentity,
                    .meaning = "auxiliary head on layer3, its loss counts half",
                    .applies = kDilatedFcn, .strict = true),
      RIDGELINE_ROW(Config, model.layers, .cls = kIdentity,
                    .meaning = "units per layer, input first, classes last",
                    .limits = {.low = 1, .high = 1e6}, .applies = kMlp, .strict = true),
      RIDGELINE_ROW(Config, model.num_classes, .cls = kIdentity,
                    .meaning = "outputs; detection and segmentation count the background as 0",
                    .limits = {.low = 2, .high = 100000}, .resolved = "from the data"),
      RIDGELINE_ROW(Config, model.norm, .cls = kIdentity,
                    .meaning = "batch norm: batch (statistics per micro-batch), frozen, sync "
                               "(over the global batch), or group norm",
                    .applies = kWithResnet, .strict = true),
      RIDGELINE_ROW(Config, model.norm_eps, .cls = kIdentity,
                    .meaning = "added to the variance; torchvision's COCO_V1 weights: 0",
                    .limits = {.low = 0, .high = 1}, .applies = kWithResnet, .strict = true),
      RIDGELINE_ROW(Config, model.trainable_stages, .cls = kIdentity,
                    .meaning = "of the 5 stages of a ResNet, counted from the output",
                    .limits = {.low = 0, .high = 5}, .applies = kWithResnet, .strict = true),
      RIDGELINE_ROW(Config, model.anchors.sizes, .cls = kIdentity,
                    .meaning = "anchor side on the levels P3..P7, pixels; each also times 2^(1/3) "
                               "and 2^(2/3)",
                    .limits = {.low = 1, .high = 10000, .min_items = 5, .max_items = 5},
                    .applies = kRetinanet, .strict = true),
      RIDGELINE_ROW(Config, model.anchors.ratios, .cls = kIdentity, .meaning = "height / width",
                    .limits = {.low = 0.01, .high = 100, .min_items = 1, .max_items = 16},
                    .applies = kRetinanet, .strict = true),
      RIDGELINE_ROW(Config, model.dropout, .cls = kIdentity,
                    .meaning = "probability of dropping a unit, where the model has dropout",
                    .limits = {.low = 0, .high = 0.99}, .applies = kWithoutHead, .strict = true,
                    .resolved = "fcn dilated 0.1, fcn on vgg16 0.5, else 0"),
      RIDGELINE_ROW(Config, model.deconvolution, .cls = kIdentity,
                    .meaning = "transposed convolutions: bilinear and fixed, or bilinear at the "
                               "start and learned",
                    .applies = kStridedFcn, .strict = true),
      RIDGELINE_ROW(Config, model.loss_reduction, .cls = kIdentity,
                    .meaning = "over the valid pixels; sum is the paper's unnormalised loss",
                    .applies = kFcn, .strict = true),
      RIDGELINE_ROW(Config, model.label_smoothing, .cls = kIdentity,
                    .meaning = "share of the target spread evenly over all classes",
                    .limits = {.low = 0, .high = 0.99}, .applies = kClassifiers, .strict = true),
      RIDGELINE_ROW(Config, model.backbone_weights,
                    .meaning = "HDF5 file by torchvision's classification names to start from",
                    .applies = kWithBackbone, .strict = true),
  };
}

}  // namespace trainer
