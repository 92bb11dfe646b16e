#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include "trainer/data/stored_dataset.h"

namespace trainer {
namespace {

// Cityscapes: the 19 classes that are trained on, in the order of their train ids, and the label id
// of each (cityscapesScripts, helpers/labels.py). There is no background.
struct CityscapesClass {
  const char* name;
  std::uint16_t label_id;
};
constexpr std::array<CityscapesClass, 19> kCityscapes = {{
    {"road", 7},  {"sidewalk", 8},       {"building", 11},     {"wall", 12},       {"fence", 13},
    {"pole", 17}, {"traffic light", 19}, {"traffic sign", 20}, {"vegetation", 21}, {"terrain", 22},
    {"sky", 23},  {"person", 24},        {"rider", 25},        {"car", 26},        {"truck", 27},
    {"bus", 28},  {"train", 31},         {"motorcycle", 32},   {"bicycle", 33},
}};
constexpr std::uint16_t kMaxCityscapesId = 33;

// Label images beside images: two folders with the same stems, or a list of pairs.
class MasksDataset : public StoredDataset {
 public:
  explicit MasksDataset(const FormatInput& input);

 protected:
  LabelImage decode_label_map(std::int64_t index) const override;

 private:
  void read_list(const FormatInput& input);
  void read_folders(const FormatInput& input);
  void set_classes(const FormatInput& input);

  bool cityscapes_ = false;
};

MasksDataset::MasksDataset(const FormatInput& input) {
  ignore_ = input.config.ignore;
  cityscapes_ = input.config.label_map == LabelMap::kCityscapes;
  set_classes(input);
  if (!input.split.list.empty())
    read_list(input);
  else
    read_folders(input);
  set_fingerprint();
}

void MasksDataset::set_classes(const FormatInput& input) {
  std::vector<std::string> names = input.config.classes;
  if (cityscapes_) {
    if (names.empty())
      for (const CityscapesClass& entry : kCityscapes) names.emplace_back(entry.name);
    if (names.size() != kCityscapes.size())
      comm::fail(comm::ExitCode::kConfig,
                 "data.classes has {} names, data.label_map cityscapes has 19 classes; remove it",
                 names.size());
    return number_classes(std::move(names), false);
  }
  if (names.empty() && input.model_num_classes < 2)
    comm::fail(comm::ExitCode::kConfig,
               "data.classes and model.num_classes are missing: data.format masks does not say how "
               "many classes there are; give one of them");
  for (int k = 1; input.config.classes.empty() && k < input.model_num_classes; ++k)
    names.push_back(std::to_string(k));
  number_classes(std::move(names), true);
}

void MasksDataset::read_list(const FormatInput& input) {
  source_ = data_path(input.config, input.split.list);
  const std::vector<TextLine> lines = read_lines(source_);
  FolderIndex files;
  std::set<std::string> seen;
  for (const TextLine& line : lines) {
    if (input.split.limit && size() >= *input.split.limit) break;
    const std::string where = fmt::format("line {}", line.number);
    const std::size_t blank = line.text.find_first_of(" \t");
    const std::size_t second = line.text.find_first_not_of(" \t", blank);
    if (blank == std::string::npos || line.text.find_first_of(" \t", second) != std::string::npos)
      comm::fail(comm::ExitCode::kData, "{}:{}: {} is not 'image label'", source_, line.number,
                 trainer::quoted(line.text));
    Sample sample;
    sample.name = line.text.substr(0, blank);
    const auto image = path_below(input.config.root, sample.name);
    const auto label = path_below(input.config.root, line.text.substr(second));
    if (!image || !label) {
      anomalies_.add(AnomalyKind::kRefusedName, where, trainer::quoted(line.text));
      continue;
    }
    if (!seen.insert(*image).second) {
      anomalies_.add(AnomalyKind::kDuplicateId, where, trainer::quoted(sample.name));
      continue;
    }
    if (!files.contains(*image) || !files.contains(*label)) {
      anomalies_.add(
          AnomalyKind::kMissingFile, where,
          fmt::format("no {}", trainer::quoted(files.contains(*image) ? *label : *image)));
      continue;
    }
    sample.file = *image;
    sample.label_file = *label;
    add_sample(std::move(sample));
  }
}

void MasksDataset::read_folders(const FormatInput& input) {
  if (input.split.images.empty()) missing_key(input, "images", "images and labels, or list");
  if (input.split.labels.empty()) missing_key(input, "labels", "images and labels, or list");
  source_ = data_path(input.config, input.split.images);
  const std::string folder = data_path(input.config, input.split.labels);
  std::map<std::string, std::string> labels;  // by stem
  for (const std::string& name : list_files(folder)) {
    if (!has_image_extension(name)) continue;
    const auto [label, added] = labels.emplace(stem_of(name), name);
    if (!added && name.ends_with(".png")) label->second = name;  // a JPEG cannot hold labels
  }
  std::map<std::string, std::string> images;  // by stem, so in byte order of the stems
  for (const std::string& name : list_files(source_))
    if (has_image_extension(name) && !images.emplace(stem_of(name), name).second)
      anomalies_.add(AnomalyKind::kDuplicateId, trainer::quoted(name), "its stem is used before");
  for (const auto& [stem, name] : images) {
    const auto label = labels.find(stem);
    if (label == labels.end()) {
      anomalies_.add(AnomalyKind::kMissingFile, trainer::quoted(name),
                     fmt::format("no label image of that stem in {}", trainer::quoted(folder)));
      continue;
    }
    if (!input.split.limit || size() < *input.split.limit) {
      Sample sample;
      sample.name = name;
      sample.file = *path_below(source_, name);
      sample.label_file = *path_below(folder, label->second);
      add_sample(std::move(sample));
    }
    labels.erase(label);
  }
  for (const auto& [stem, name] : labels)
    if (!images.contains(stem))
      anomalies_.add(AnomalyKind::kUnusedLabel, trainer::quoted(name), "");
}

LabelImage MasksDataset::decode_label_map(std::int64_t index) const {
  LabelImage labels = Dataset::decode_label_map(index);
  if (!cityscapes_) return labels;
  std::array<std::uint16_t, kMaxCityscapesId + 1> train_id;
  train_id.fill(static_cast<std::uint16_t>(ignore_));
  for (std::size_t k = 0; k < kCityscapes.size(); ++k)
    train_id[kCityscapes[k].label_id] = static_cast<std::uint16_t>(k);
  for (std::uint16_t& pixel : labels.pixels) {
    // License plates have label id -1, stored as 255 in some releases.
    if (pixel > kMaxCityscapesId && pixel != 255)
      throw SampleError(AnomalyKind::kLabelValue,
                        fmt::format("{}: {} is no Cityscapes label id; use the _labelIds files",
                                    trainer::quoted(sample(index).label_file), pixel));
    pixel = pixel == 255 ? static_cast<std::uint16_t>(ignore_) : train_id[pixel];
  }
  return labels;
}

}  // namespace

std::unique_ptr<Dataset> open_masks(const FormatInput& input) {
  return std::make_unique<MasksDataset>(input);
}

}  // namespace trainer
