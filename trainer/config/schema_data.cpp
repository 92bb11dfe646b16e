#include "trainer/config/schema.h"

namespace trainer {
namespace {

constexpr KeyClass kIdentity = KeyClass::kIdentity;

bool has_label_maps(const Config& c) { return c.model.name == ModelName::kFcn; }
bool has_boxes(const Config& c) { return c.model.name == ModelName::kRetinanet; }

const Applies kLabelMaps{"fcn", has_label_maps};
const Applies kBoxes{"retinanet", has_boxes};
const Applies kDense{"retinanet, fcn",
                     [](const Config& c) { return has_boxes(c) || has_label_maps(c); }};
const Applies kNamed{"mlp, cnn, classifier and data.format coco", [](const Config& c) {
                       return (!has_boxes(c) && !has_label_maps(c)) ||
                              c.data.format == DataFormat::kCoco;
                     }};
const Applies kCrop{"resize: crop", [](const Config& c) { return c.data.resize == Resize::kCrop; }};

std::vector<Row<Config>> input_rows() {
  return {
      RIDGELINE_ROW(Config, data.format, .cls = kIdentity,
                    .meaning = "layout of the files; shapes is built in and has none"),
      RIDGELINE_ROW(Config, data.root,
                    .meaning = "folder that the paths of the splits are relative to; itself "
                               "relative to the working directory"),
      RIDGELINE_ROW(Config, data.classes, .cls = kIdentity,
                    .meaning = "class names without background, where the format has none"),
      RIDGELINE_ROW(Config, data.only, .cls = kIdentity,
                    .meaning = "names of the classes kept, with coco numbered in this order; "
                               "empty: all",
                    .applies = kNamed),
      RIDGELINE_ROW(Config, data.ignore, .cls = kIdentity,
                    .meaning = "label value that is neither trained nor scored",
                    .limits = {.low = 0, .high = 65535}, .applies = kLabelMaps),
      RIDGELINE_ROW(Config, data.label_map, .cls = kIdentity,
                    .meaning = "contiguous: 1..K in category id order; ids: the category id is "
                               "the class; cityscapes: label ids to the 19 train ids",
                    .applies = kDense),
      RIDGELINE_ROW(Config, data.size, .cls = kIdentity,
                    .meaning = "input height and width, pixels; several are shape buckets",
                    .limits = {.low = 1, .high = 8192, .min_items = 1, .max_items = 16},
                    .resolved = "mnist [28, 28], else [512, 512]"),
      RIDGELINE_ROW(Config, data.resize, .cls = kIdentity,
                    .meaning = "fit: scale into the size, pad at the bottom right; crop: random "
                               "crop in training; none: images have the size"),
      RIDGELINE_ROW(Config, data.short_side, .cls = kIdentity,
                    .meaning = "short side before cropping, pixels; 0: the image's own",
                    .limits = {.low = 0, .high = 8192}, .applies = kCrop),
      RIDGELINE_ROW(Config, data.antialias, .cls = kIdentity,
                    .meaning = "low-pass when scaling down; false: torchvision's detectors"),
      RIDGELINE_ROW(Config, data.mean, .cls = kIdentity,
                    .meaning = "subtracted from pixel / 255, a value a channel",
                    .limits = {.low = -10, .high = 10, .min_items = 1, .max_items = 3},
                    .resolved = "mnist [0], else ImageNet's"),
      RIDGELINE_ROW(Config, data.std, .cls = kIdentity,
                    .meaning = "divides (pixel / 255 - mean), a value a channel",
                    .limits = {.low = 1e-4, .high = 100, .min_items = 1, .max_items = 3},
                    .resolved = "mnist [1], else ImageNet's"),
  };
}

std::vector<Row<Config>> sample_rows() {
  return {
      RIDGELINE_ROW(Config, data.flip, .cls = kIdentity,
                    .meaning = "probability of a horizontal flip in training",
                    .limits = {.low = 0, .high = 1}),
      RIDGELINE_ROW(Config, data.vflip, .cls = kIdentity,
                    .meaning = "probability of a vertical flip in training",
                    .limits = {.low = 0, .high = 1}),
      RIDGELINE_ROW(Config, data.scale, .cls = kIdentity,
                    .meaning = "range of the random scale factor in training, log-uniform",
                    .limits = {.low = 0.05, .high = 20, .min_items = 2, .max_items = 2}),
      RIDGELINE_ROW(Config, data.shift, .cls = kIdentity,
                    .meaning = "largest random move of the content in training, share of the size",
                    .limits = {.low = 0, .high = 0.9}),
      RIDGELINE_ROW(Config, data.photometric, .cls = kIdentity,
                    .meaning = "s: brightness, contrast and saturation times [1-s, 1+s], hue "
                               "turned by up to s/10, in training",
                    .limits = {.low = 0, .high = 0.9}),
      RIDGELINE_ROW(Config, data.shuffle, .cls = kIdentity,
                    .meaning = "a new order every epoch; false: the order of the files"),
      RIDGELINE_ROW(Config, data.max_boxes, .cls = kIdentity,
                    .meaning = "capacity; more boxes in one image stop the run",
                    .limits = {.low = 1, .high = 10000}, .applies = kBoxes),
      RIDGELINE_ROW(Config, data.on_error, .cls = KeyClass::kSchedule,
                    .meaning = "a bad image or annotation: stop, or skip and count it"),
      RIDGELINE_ROW(Config, data.skip_limit, .cls = KeyClass::kSchedule,
                    .meaning = "most images that may be skipped", .limits = {.low = 0, .high = 1e9},
                    .applies = {"on_error: skip",
                                [](const Config& c) { return c.data.on_error == OnError::kSkip; }}),
  };
}

}  // namespace

std::vector<Row<Config>> data_rows() {
  std::vector<Row<Config>> rows = input_rows();
  for (Row<Config>& row : sample_rows()) rows.push_back(std::move(row));
  return rows;
}

const std::vector<Row<SplitConfig>>& split_schema() {
  static const std::vector<Row<SplitConfig>> rows = {
      RIDGELINE_ROW(SplitConfig, images, .meaning = "folder of images"),
      RIDGELINE_ROW(SplitConfig, annotations,
                    .meaning = "coco: JSON file; voc: folder of XML files"),
      RIDGELINE_ROW(SplitConfig, labels,
                    .meaning = "masks, voc: folder of label images, the images' stems"),
      RIDGELINE_ROW(SplitConfig, list,
                    .meaning = "masks: file of 'image label' lines; voc: file of stems"),
      RIDGELINE_ROW(SplitConfig, limit, .meaning = "only the first so many images",
                    .limits = {.low = 1, .high = 1e12},
                    .resolved = "all; shapes: train 512, others 128"),
  };
  return rows;
}

}  // namespace trainer
