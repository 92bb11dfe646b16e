#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <fmt/ranges.h>

#include "trainer/data/dataset_files.h"
#include "trainer/data/formats.h"

namespace trainer {
namespace {

// Boxes of a COCO "instances" file; label maps drawn from its polygons and runs.
class CocoDataset : public Dataset {
 public:
  explicit CocoDataset(const FormatInput& input);

  std::int64_t size() const override { return static_cast<std::int64_t>(samples_.size()); }
  const Sample& sample(std::int64_t index) const override {
    return samples_.at(static_cast<std::size_t>(index));
  }
  CocoAnnotations ground_truth() const override;

 protected:
  LabelImage decode_label_map(std::int64_t index) const override;

 private:
  void read_categories(const FormatInput& input);
  void drop_duplicate_categories();
  void keep_categories(const std::vector<std::string>& names);
  void read_images(const FormatInput& input);
  void read_objects(bool masks);
  bool add_image(const CocoImage& image, const std::string& folder, FolderIndex& files);
  static bool has_mask(const CocoAnnotation& annotation) {
    return !std::holds_alternative<std::monostate>(annotation.segmentation);
  }
  static std::vector<std::uint8_t> mask_of(const CocoAnnotation& annotation, const Sample& sample);

  CocoAnnotations file_;
  std::vector<Sample> samples_;
  std::unordered_map<std::int64_t, int> label_of_category_;  // 0: not kept
  std::unordered_map<std::int64_t, std::size_t> sample_of_image_;
  std::unordered_set<std::int64_t> left_out_;  // images beyond the limit, or that are not there
};

CocoDataset::CocoDataset(const FormatInput& input) {
  if (input.split.annotations.empty()) missing_key(input, "annotations", "a JSON file");
  source_ = data_path(input.config, input.split.annotations);
  std::vector<CocoProblem> problems;
  file_ = read_coco_annotations(source_,
                                {.segmentations = input.fields.label_map, .problems = &problems});
  for (const auto& [where, what] : problems) anomalies_.add(AnomalyKind::kMalformed, where, what);
  ignore_ = input.config.ignore;
  read_categories(input);
  read_images(input);
  read_objects(input.fields.label_map);
  Fingerprint fingerprint;
  fingerprint.add_file(source_);
  for (const std::string& name : input.config.only) fingerprint.add(name);
  for (const Sample& sample : samples_) fingerprint.add(sample);
  fingerprint_ = fingerprint.value();
}

void CocoDataset::read_categories(const FormatInput& input) {
  drop_duplicate_categories();
  make_names_unique(file_.categories);
  const bool ids = input.config.label_map == LabelMap::kIds;
  if (ids && !input.config.only.empty())
    comm::fail(comm::ExitCode::kConfig,
               "data.only numbers its classes from 1, data.label_map ids by category id; remove "
               "one of them");
  if (input.config.label_map == LabelMap::kCityscapes)
    comm::fail(comm::ExitCode::kConfig,
               "data.label_map cityscapes is for data.format masks; use contiguous or ids");
  for (const CocoCategory& category : file_.categories) {
    if (ids && (category.id < 1 || category.id > 65534))
      comm::fail(comm::ExitCode::kData,
                 "{}: category id {} can't be a class index; use data.label_map contiguous",
                 source_, category.id);
    const int label =
        ids ? static_cast<int>(category.id) : static_cast<int>(class_names_.size()) + 1;
    class_names_.push_back(category.name);
    category_ids_.push_back(category.id);
    class_labels_.push_back(label);
    label_of_category_[category.id] = label;
  }
  if (class_names_.empty())
    comm::fail(comm::ExitCode::kData, "{}: no categories; add the list \"categories\"", source_);
  num_classes_ = class_labels_.back() + 1;
  if (!input.config.classes.empty() && input.config.classes != class_names_)
    comm::fail(comm::ExitCode::kConfig,
               "data.classes differs from the categories of {}; remove it, the file names them",
               source_);
  if (!input.config.only.empty()) keep_categories(input.config.only);
}

// Leaves them in order of their ids.
void CocoDataset::drop_duplicate_categories() {
  std::ranges::stable_sort(file_.categories, {}, &CocoCategory::id);
  std::vector<CocoCategory> kept;
  for (CocoCategory& category : file_.categories) {
    if (!kept.empty() && kept.back().id == category.id)
      anomalies_.add(AnomalyKind::kDuplicateId, fmt::format("category {}", category.id),
                     trainer::quoted(category.name));
    else
      kept.push_back(std::move(category));
  }
  file_.categories = std::move(kept);
}

// Numbers them in the order of `names`; what is not among them is as if nobody had annotated it.
void CocoDataset::keep_categories(const std::vector<std::string>& names) {
  std::vector<CocoCategory> kept;
  for (auto& [category, label] : label_of_category_) label = 0;
  for (const std::string& name : names) {
    const auto found = std::ranges::find(file_.categories, name, &CocoCategory::name);
    if (found == file_.categories.end())
      comm::fail(comm::ExitCode::kConfig, "data.only: {} is no category of {}, which has {}",
                 trainer::quoted(name), source_,
                 trainer::quoted(fmt::format("{}", fmt::join(class_names_, ", "))));
    if (std::ranges::find(kept, found->id, &CocoCategory::id) != kept.end())
      comm::fail(comm::ExitCode::kConfig, "data.only: {} is given twice", trainer::quoted(name));
    kept.push_back(*found);
    label_of_category_[found->id] = static_cast<int>(kept.size());
  }
  number_classes(names, true);
  for (std::size_t k = 0; k < kept.size(); ++k) category_ids_[k] = kept[k].id;
  file_.categories = std::move(kept);
}

bool CocoDataset::add_image(const CocoImage& image, const std::string& folder, FolderIndex& files) {
  const std::string where = fmt::format("image {} {}", image.id, trainer::quoted(image.file_name));
  if (sample_of_image_.contains(image.id) || left_out_.contains(image.id)) {
    anomalies_.add(AnomalyKind::kDuplicateId, where, "its id is used before");
    return false;
  }
  const auto path = path_below(folder, image.file_name);
  if (!path) {
    anomalies_.add(AnomalyKind::kRefusedName, where, "file_name must stay below data's images");
    return false;
  }
  if (!files.contains(*path)) {
    anomalies_.add(AnomalyKind::kMissingFile, where, fmt::format("no {}", trainer::quoted(*path)));
    return false;
  }
  constexpr std::int64_t kMaxSide = kMaxImageSide;
  if (image.width < 0 || image.height < 0 || image.width > kMaxSide || image.height > kMaxSide) {
    anomalies_.add(AnomalyKind::kSizeMismatch, where,
                   fmt::format("annotated as {}x{}", image.width, image.height));
    return false;
  }
  Sample sample;
  sample.name = image.file_name;
  sample.file = *path;
  sample.image_id = image.id;
  sample.width = static_cast<int>(image.width);
  sample.height = static_cast<int>(image.height);
  if (sample.width == 0 || sample.height == 0) {  // boxes are clipped to it, so ask the file
    try {
      const ImageInfo info = probe_image(sample.file);
      sample.width = info.width;
      sample.height = info.height;
    } catch (const comm::Error& error) {
      anomalies_.add(AnomalyKind::kUndecodable, where, error.what());
      return false;
    }
  }
  sample_of_image_[image.id] = samples_.size();
  samples_.push_back(std::move(sample));
  return true;
}

void CocoDataset::read_images(const FormatInput& input) {
  const std::string folder = data_path(input.config, input.split.images);
  FolderIndex files;
  const std::int64_t limit = input.split.limit.value_or(std::numeric_limits<std::int64_t>::max());
  for (const CocoImage& image : file_.images)
    if (size() >= limit || !add_image(image, folder, files)) left_out_.insert(image.id);
  std::vector<CocoImage>().swap(file_.images);
}

// Keeps the annotations of the samples; drops the others, counting those that are wrong.
void CocoDataset::read_objects(bool masks) {
  std::unordered_set<std::int64_t> annotation_ids;
  std::vector<CocoAnnotation> kept;
  for (CocoAnnotation& annotation : file_.annotations) {
    const std::string where =
        fmt::format("annotation {} of image {}", annotation.id, annotation.image_id);
    const auto image = sample_of_image_.find(annotation.image_id);
    if (image == sample_of_image_.end()) {
      if (!left_out_.contains(annotation.image_id))
        anomalies_.add(AnomalyKind::kUnknownId, where, "there is no image of that id");
      continue;
    }
    const auto label = label_of_category_.find(annotation.category_id);
    if (label == label_of_category_.end()) {
      anomalies_.add(AnomalyKind::kUnknownId, where,
                     fmt::format("there is no category {}", annotation.category_id));
      continue;
    }
    if (label->second == 0) continue;
    if (!annotation_ids.insert(annotation.id).second) {
      anomalies_.add(AnomalyKind::kDuplicateId, where, "its id is used before");
      continue;
    }
    const auto& [x, y, w, h] = annotation.bbox;
    if (!annotation.has_valid_bbox()) {
      anomalies_.add(AnomalyKind::kMalformed, where,
                     annotation.num_bbox_values == 4
                         ? fmt::format("bbox [{:.6g}, {:.6g}, {:.6g}, {:.6g}]", x, y, w, h)
                         : fmt::format("bbox of {} values",
                                       std::max<std::int64_t>(0, annotation.num_bbox_values)));
      continue;
    }
    Object object;
    object.box = {x, y, x + w, y + h};
    object.label = label->second;
    object.crowd = annotation.is_crowd;
    object.area = std::isfinite(annotation.area) ? annotation.area : w * h;
    object.category_id = annotation.category_id;
    object.annotation = static_cast<std::int64_t>(kept.size());
    Sample& sample = samples_[image->second];
    add_object(sample, object, anomalies_);
    if (masks && sample.objects.back().trained && !has_mask(annotation))
      anomalies_.add(AnomalyKind::kMalformed, where, "no segmentation");
    kept.push_back(std::move(annotation));
  }
  file_.annotations = std::move(kept);
}

CocoAnnotations CocoDataset::ground_truth() const {
  CocoAnnotations result = file_;
  for (const Sample& sample : samples_)
    result.images.push_back({sample.image_id, sample.name, sample.width, sample.height});
  return result;
}

std::vector<std::uint8_t> CocoDataset::mask_of(const CocoAnnotation& annotation,
                                               const Sample& sample) {
  try {
    return rle_decode(to_rle(annotation.segmentation, sample.height, sample.width));
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(fmt::format("annotation {}: {}", annotation.id, error.what()));
  }
}

// As torchvision's references/segmentation/coco_utils.py: a pixel in two masks is ignored. A
// crowd's pixels are ignored, too, unless an object owns them. What has no mask has no pixels.
LabelImage CocoDataset::decode_label_map(std::int64_t index) const {
  const Sample& sample = this->sample(index);
  LabelImage map = {sample.width, sample.height, {}};
  map.pixels.assign(
      static_cast<std::size_t>(sample.width) * static_cast<std::size_t>(sample.height), 0);
  const auto ignored = static_cast<std::uint16_t>(ignore_);
  for (const bool crowds : {true, false}) {
    std::vector<bool> owned(map.pixels.size(), false);
    for (const Object& object : sample.objects) {
      const auto& annotation = file_.annotations[static_cast<std::size_t>(object.annotation)];
      if (object.crowd != crowds || !has_mask(annotation)) continue;
      const std::vector<std::uint8_t> mask = mask_of(annotation, sample);
      for (std::size_t i = 0; i < mask.size(); ++i) {
        if (mask[i] == 0) continue;
        map.pixels[i] = crowds || owned[i] ? ignored : static_cast<std::uint16_t>(object.label);
        owned[i] = true;
      }
    }
  }
  return map;
}

}  // namespace

std::unique_ptr<Dataset> open_coco(const FormatInput& input) {
  return std::make_unique<CocoDataset>(input);
}

}  // namespace trainer
