#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <pugixml.hpp>
#include <set>
#include <string_view>
#include <utility>

#include "trainer/data/dataset_files.h"
#include "trainer/data/formats.h"

namespace trainer {
namespace {

constexpr std::array<const char*, 20> kVocClasses = {
    "aeroplane", "bicycle",     "bird",  "boat",        "bottle", "bus",      "car",
    "cat",       "chair",       "cow",   "diningtable", "dog",    "horse",    "motorbike",
    "person",    "pottedplant", "sheep", "sofa",        "train",  "tvmonitor"};

// NaN unless `text` is a number and nothing else.
double number_of(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  text = text.substr(0, text.find_last_not_of(kBlanks) + 1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole ? value : CocoAnnotation::kNan;
}

// Pascal VOC: one XML file an image below `annotations`, stems in `list`, label images (palette
// PNG) below `labels`. Corners are 1-based pixels, both inside the box, as in the VOC devkit and
// detectron2: x1 = xmin - 1, x2 = xmax, so xmin 1, xmax W is the whole width.
class VocDataset : public Dataset {
 public:
  explicit VocDataset(const FormatInput& input);

  std::int64_t size() const override { return static_cast<std::int64_t>(samples_.size()); }
  const Sample& sample(std::int64_t index) const override {
    return samples_.at(static_cast<std::size_t>(index));
  }
  CocoAnnotations ground_truth() const override;

 private:
  struct Folders {
    std::string images, annotations, labels;
  };
  void add_image(const std::string& stem, const Folders& folders, bool label_maps);
  void add_boxes(const std::string& path, const pugi::xml_node& root, Sample& sample);
  void add_annotation(const std::string& where, const pugi::xml_node& node, Sample& sample);
  pugi::xml_document load(const std::string& path);

  std::vector<Sample> samples_;
  std::vector<CocoAnnotation> annotations_;
  FolderIndex files_;
  Fingerprint hash_;
};

VocDataset::VocDataset(const FormatInput& input) {
  const SplitConfig& split = input.split;
  const auto path = [&](const std::string& given, const std::string& usual) {
    return data_path(input.config, given.empty() ? usual : given);
  };
  const bool label_maps = input.fields.label_map;
  const Folders folders = {path(split.images, "JPEGImages"), path(split.annotations, "Annotations"),
                           path(split.labels, "SegmentationClass")};
  source_ =
      path(split.list, std::string(label_maps ? "ImageSets/Segmentation/" : "ImageSets/Main/") +
                           input.split_name + ".txt");
  ignore_ = input.config.ignore;
  number_classes(input.config.classes.empty()
                     ? std::vector<std::string>(kVocClasses.begin(), kVocClasses.end())
                     : input.config.classes,
                 true);
  const std::vector<TextLine> lines = read_lines(source_);
  std::set<std::string> stems;
  for (const TextLine& line : lines) {
    if (split.limit && size() >= *split.limit) break;
    // Lists of one class have a second column, 1, 0 or -1.
    const std::string stem = line.text.substr(0, line.text.find_first_of(" \t"));
    if (stems.insert(stem).second)
      add_image(stem, folders, label_maps);
    else
      anomalies_.add(AnomalyKind::kDuplicateId, fmt::format("line {}", line.number),
                     trainer::quoted(stem));
  }
  for (const std::string& name : class_names_) hash_.add(name);
  for (const Sample& sample : samples_) hash_.add(sample);
  fingerprint_ = hash_.value();
}

pugi::xml_document VocDataset::load(const std::string& path) {
  constexpr std::size_t kMaxXmlBytes = std::size_t{16} << 20;
  const std::vector<std::uint8_t> bytes = read_file_bytes(path);
  hash_.add(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  pugi::xml_document document;
  if (bytes.size() > kMaxXmlBytes) comm::fail(comm::ExitCode::kData, "beyond 16 MiB");
  // A DOCTYPE is skipped: no entity is ever defined, none is fetched.
  const auto result = document.load_buffer(bytes.data(), bytes.size());
  if (!result)
    comm::fail(comm::ExitCode::kData, "{} at byte {}", result.description(), result.offset);
  if (!document.child("annotation")) comm::fail(comm::ExitCode::kData, "no <annotation>");
  return document;
}

void VocDataset::add_image(const std::string& stem, const Folders& folders, bool label_maps) {
  const std::string where = trainer::quoted(stem);
  const auto xml = path_below(folders.annotations, stem + ".xml");
  if (!xml)
    return anomalies_.add(AnomalyKind::kRefusedName, where, "it must stay below its folder");
  Sample sample;
  sample.image_id = static_cast<std::int64_t>(samples_.size()) + 1;
  const bool has_xml = files_.contains(*xml);
  if (!has_xml && !label_maps)  // VOC's segmentation sets may come without boxes
    return anomalies_.add(AnomalyKind::kMissingFile, where,
                          fmt::format("no {}", trainer::quoted(*xml)));
  for (const char* extension : {".jpg", ".png", ".jpeg"}) {
    sample.name = stem + extension;
    sample.file = *path_below(folders.images, sample.name);
    if (files_.contains(sample.file)) break;
  }
  if (!files_.contains(sample.file))
    return anomalies_.add(
        AnomalyKind::kMissingFile, where,
        fmt::format("no {} .jpg", trainer::quoted(*path_below(folders.images, stem))));
  if (label_maps) {
    sample.label_file = *path_below(folders.labels, stem + ".png");
    if (!files_.contains(sample.label_file))
      return anomalies_.add(AnomalyKind::kMissingFile, where,
                            fmt::format("no {}", trainer::quoted(sample.label_file)));
  }
  try {
    if (!label_maps) add_boxes(*xml, load(*xml).child("annotation"), sample);
  } catch (const comm::Error& error) {
    if (error.code() != comm::ExitCode::kData) throw;
    return anomalies_.add(AnomalyKind::kUndecodable, trainer::quoted(*xml), error.what());
  }
  samples_.push_back(std::move(sample));
}

void VocDataset::add_boxes(const std::string& path, const pugi::xml_node& root, Sample& sample) {
  sample.width = root.child("size").child("width").text().as_int();
  sample.height = root.child("size").child("height").text().as_int();
  if (sample.width < 1 || sample.height < 1) {
    const ImageInfo info = probe_image(sample.file);
    sample.width = info.width;
    sample.height = info.height;
  }
  for (const pugi::xml_node& node : root.children("object"))
    add_annotation(trainer::quoted(path), node, sample);
}

void VocDataset::add_annotation(const std::string& where, const pugi::xml_node& node,
                                Sample& sample) {
  const std::string name = node.child("name").text().as_string();
  const auto it = std::ranges::find(class_names_, name);
  if (it == class_names_.end())
    return anomalies_.add(AnomalyKind::kUnknownId, where,
                          fmt::format("class {} is not in data.classes", trainer::quoted(name)));
  const pugi::xml_node box = node.child("bndbox");
  Corners corners;
  constexpr std::array<const char*, 4> kNames = {"xmin", "ymin", "xmax", "ymax"};
  for (std::size_t i = 0; i < 4; ++i)
    corners[i] = number_of(box.child(kNames[i]).text().get()) - (i < 2 ? 1 : 0);
  const double width = corners[2] - corners[0], height = corners[3] - corners[1];
  if (!(std::isfinite(width) && std::isfinite(height)) || width < 0 || height < 0)
    return anomalies_.add(AnomalyKind::kMalformed, where,
                          fmt::format("xmin {:.6g}, ymin {:.6g}, xmax {:.6g}, ymax {:.6g}",
                                      corners[0] + 1, corners[1] + 1, corners[2], corners[3]));
  Object object;
  object.box = corners;
  object.label = static_cast<int>(it - class_names_.begin()) + 1;
  object.difficult = node.child("difficult").text().as_int() != 0;
  object.area = width * height;
  object.category_id = object.label;
  object.annotation = static_cast<std::int64_t>(annotations_.size());
  add_object(sample, object, anomalies_);
  CocoAnnotation annotation;
  annotation.id = static_cast<std::int64_t>(annotations_.size()) + 1;
  annotation.image_id = sample.image_id;
  annotation.category_id = object.category_id;
  annotation.bbox = {corners[0], corners[1], width, height};
  annotation.num_bbox_values = 4;
  annotation.area = object.area;
  annotation.ignore = object.difficult;
  annotations_.push_back(std::move(annotation));
}

CocoAnnotations VocDataset::ground_truth() const {
  CocoAnnotations result;
  for (const Sample& sample : samples_)
    result.images.push_back({sample.image_id, sample.name, sample.width, sample.height});
  for (std::size_t k = 0; k < class_names_.size(); ++k)
    result.categories.push_back({category_ids_[k], class_names_[k]});
  result.annotations = annotations_;
  return result;
}

}  // namespace

std::unique_ptr<Dataset> open_voc(const FormatInput& input) {
  return std::make_unique<VocDataset>(input);
}

}  // namespace trainer
