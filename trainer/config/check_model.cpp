#include <fmt/format.h>

#include <algorithm>

#include "trainer/config/read.h"
#include "trainer/config/schema.h"

namespace trainer {
namespace {

class ModelCheck {
 public:
  explicit ModelCheck(const LoadedConfig& loaded)
      : loaded_(loaded),
        model_(loaded.config.model),
        data_(loaded.config.data),
        eval_(loaded.config.eval) {}

  std::vector<std::string> run() {
    check_format();
    if (dense()) check_backbone();
    if (model_.name == ModelName::kMlp) check_layers();
    if (model_.name == ModelName::kRetinanet) check_anchors();
    check_sizes();
    check_classes();
    check_pixels();
    for (const auto& [name, split] : data_.splits) check_split("data." + name, split);
    return std::move(problems_);
  }

 private:
  bool dense() const {
    return model_.name == ModelName::kRetinanet || model_.name == ModelName::kFcn;
  }

  template <typename... Args>
  void require(bool ok, const std::string& key, fmt::format_string<Args...> text, Args&&... args) {
    if (!ok)
      problems_.push_back(
          problem(loaded_.origins, key, fmt::format(text, std::forward<Args>(args)...)));
  }

  void check_format() {
    using enum DataFormat;
    const std::vector<DataFormat> fit =
        model_.name == ModelName::kRetinanet ? std::vector{kCoco, kVoc, kShapes}
        : model_.name == ModelName::kFcn     ? std::vector{kCoco, kVoc, kMasks, kShapes}
                                             : std::vector{kMnist, kFolders};
    require(std::count(fit.begin(), fit.end(), data_.format), "data.format",
            "{} has no targets for model.name {}; it trains on {}", to_string(data_.format),
            to_string(model_.name), print_value(fit));
    const bool cityscapes = data_.label_map == LabelMap::kCityscapes;
    require(!cityscapes || data_.format == kMasks, "data.label_map",
            "cityscapes needs data.format masks");
    require(data_.label_map != LabelMap::kIds || data_.format == kCoco, "data.label_map",
            "ids needs data.format coco, whose categories have ids");
  }

  void check_backbone() {
    const bool vgg = model_.backbone == Backbone::kVgg16;
    const bool deep = !vgg && model_.backbone != Backbone::kResnet18 &&
                      model_.backbone != Backbone::kResnet34;
    if (model_.name == ModelName::kRetinanet)
      require(!vgg, "model.backbone", "retinanet needs a resnet or resnext, got vgg16");
    else if (model_.head == FcnHead::kDilated)
      require(deep, "model.backbone",
              "fcn with head dilated needs resnet50, resnet101 or resnext50_32x4d, got {}; or "
              "choose model.head 32s, 16s or 8s",
              to_string(model_.backbone));
  }

  void check_layers() {
    require(model_.layers.size() >= 2, "model.layers",
            "mlp needs at least input and output, as in [784, 64, 10]");
    if (model_.layers.size() < 2) return;
    const InputSize size = data_.size[0];
    const int64_t inputs = int64_t{num_channels(data_.format)} * size.height * size.width;
    require(model_.layers.front() == inputs, "model.layers",
            "the first is {}, but data.size {} with {} channels gives {} inputs",
            model_.layers.front(), print_value(size), num_channels(data_.format), inputs);
    require(!model_.num_classes || model_.layers.back() == *model_.num_classes, "model.layers",
            "the last is {}, but model.num_classes is {}", model_.layers.back(),
            model_.num_classes.value_or(0));
  }

  void check_anchors() {
    const std::vector<int>& sizes = model_.anchors.sizes;
    require(std::is_sorted(sizes.begin(), sizes.end(), std::less_equal<int>()),
            "model.anchors.sizes", "must increase from level to level");
  }

  void check_sizes() {
    check_sizes("data.size", data_.size);
    if (eval_.size.empty() || eval_.size == data_.size) return;
    check_sizes("eval.size", eval_.size);
    require(data_.resize != Resize::kNone, "eval.size",
            "with data.resize none all images have data.size; remove it");
    const bool fixed =
        model_.name == ModelName::kMlp || model_.name == ModelName::kCnn ||
        (model_.name == ModelName::kClassifier && model_.backbone == Backbone::kVgg16);
    require(!fixed, "eval.size",
            "{} has linear layers for data.size {} only", to_string(model_.name),
            print_value(data_.size));
  }

  void check_sizes(const char* key, const std::vector<InputSize>& sizes) {
    require(sizes.size() == 1 || dense(), key, "{} takes one size", to_string(model_.name));
    const auto multiple = [&](int unit, const char* why) {
      const auto up = [&](int side) { return (side + unit - 1) / unit * unit; };
      for (const InputSize& size : sizes) {
        const InputSize near{up(size.height), up(size.width)};
        require(size == near, key, "{} must be multiples of {} for {} ({}); nearest {}",
                print_value(size), unit, to_string(model_.name), why, print_value(near));
      }
    };
    if (model_.name == ModelName::kCnn) return multiple(4, "it pools twice by 2");
    if (model_.name == ModelName::kRetinanet)
      return multiple(32,
                      "the pyramid joins levels by factors of 2 down to stride 32, as torchvision "
                      "pads to 32");
    if (model_.name != ModelName::kFcn) return;
    if (model_.head == FcnHead::kDilated) return multiple(8, "the backbone's stride is 8");
    // VGG16 pads its input by 100 and crops, as the paper does, so any size meets.
    if (model_.backbone != Backbone::kVgg16)
      multiple(32, "its skips meet at strides 8, 16 and 32");
  }

  void check_classes() {
    if (!model_.num_classes) return;
    // Cityscapes' train ids have no background class.
    const bool background = dense() && data_.label_map != LabelMap::kCityscapes;
    const size_t needed = data_.classes.size() + background;
    require(data_.classes.empty() || static_cast<size_t>(*model_.num_classes) >= needed,
            "model.num_classes", "is {}, but data.classes names {}{}", *model_.num_classes,
            data_.classes.size(), background ? " beside the background" : "");
  }

  void check_pixels() {
    const size_t channels = num_channels(data_.format);
    const auto fits = [&](const std::vector<double>& v) {
      return v.size() == 1 || v.size() == channels;
    };
    require(fits(data_.mean), "data.mean", "has {} values for {} channels", data_.mean.size(),
            channels);
    require(fits(data_.std), "data.std", "has {} values for {} channels", data_.std.size(),
            channels);
    require(data_.scale[0] <= data_.scale[1], "data.scale", "[low, high] is upside down: {}",
            print_value(data_.scale));
    const bool moves = data_.scale != std::vector<double>{1, 1} || data_.shift > 0;
    require(!moves || data_.resize != Resize::kNone, data_.shift > 0 ? "data.shift" : "data.scale",
            "needs data.resize fit or crop; with none every image keeps its pixels");
    for (const std::string& name : data_.only)
      require(data_.classes.empty() || std::count(data_.classes.begin(), data_.classes.end(), name),
              "data.only", "{} is not among data.classes", quote(name));
  }

  void check_split(const std::string& key, const SplitConfig& split) {
    using enum DataFormat;
    const std::string any = loaded_.origins.contains(key + ".images") ? key + ".images" : key;
    const bool listed = !split.list.empty();
    if (data_.format == kCoco)
      require(!split.annotations.empty(), any, "coco needs {}.annotations, a JSON file", key);
    if (data_.format == kVoc)
      require(!split.annotations.empty() || !split.labels.empty(), any,
              "voc needs {0}.annotations (XML, detection) or {0}.labels (segmentation)", key);
    if (data_.format == kFolders)
      require(!split.images.empty(), any, "folders needs {}.images, a folder a class in it", key);
    if (data_.format == kMasks)
      require(listed != (!split.images.empty() && !split.labels.empty()), any,
              "masks needs {0}.images and {0}.labels, or {0}.list alone", key);
  }

  const LoadedConfig& loaded_;
  const ModelConfig& model_;
  const DataConfig& data_;
  const EvalConfig& eval_;
  std::vector<std::string> problems_;
};

}  // namespace

std::vector<std::string> model_contradictions(const LoadedConfig& loaded) {
  return ModelCheck(loaded).run();
}

}  // namespace trainer
