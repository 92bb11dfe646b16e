#include "trainer/commands/data_facts.h"

#include <iterator>

#include "trainer/data/dataset.h"
#include "trainer/data/shapes.h"
#include "trainer/feed.h"

namespace trainer {
namespace {

constexpr int kMnistClasses = 10;
constexpr int kCityscapesClasses = 19;  // those that are trained on; no background

bool dense(const Config& config) {
  return config.model.name == ModelName::kRetinanet || config.model.name == ModelName::kFcn;
}

// Labels that the model's first class name stands for.
int first_label(const Config& config) {
  return dense(config) && config.data.label_map != LabelMap::kCityscapes ? 1 : 0;
}

std::string unknown_classes(const std::string& why) {
  return "model.num_classes is not given, and neither data.classes nor a built-in set says it" +
         why + "; set model.num_classes (background included for detection and segmentation)";
}

// Formats whose samples need no files that somebody names.
bool split_is_optional(DataFormat format) {
  return format == DataFormat::kShapes || format == DataFormat::kMnist;
}

void name_by_number(DataFacts& facts) {
  const std::size_t known = facts.class_names.size();
  for (std::size_t k = known; k < static_cast<std::size_t>(facts.num_classes); ++k) {
    facts.class_names.push_back(std::to_string(k));
  }
}

void take_dataset(const Dataset& dataset, DataFacts& facts) {
  facts.num_images = dataset.size();
  if (facts.num_classes == 0) facts.num_classes = dataset.num_classes();
  facts.class_names.clear();
  for (int label = 0; label < facts.num_classes; ++label) {
    const std::string name = dataset.class_name(label);
    facts.class_names.push_back(name.empty() ? std::to_string(label) : name);
  }
}

}  // namespace

std::optional<int> configured_num_classes(const Config& config) {
  if (config.model.num_classes) return config.model.num_classes;
  if (config.model.name == ModelName::kMlp && !config.model.layers.empty()) {
    return config.model.layers.back();
  }
  const int background = first_label(config);
  const DataConfig& data = config.data;
  if (!data.only.empty()) return static_cast<int>(data.only.size()) + background;
  if (!data.classes.empty()) return static_cast<int>(data.classes.size()) + background;
  if (data.label_map == LabelMap::kCityscapes) return kCityscapesClasses;
  if (data.format == DataFormat::kShapes) {
    return static_cast<int>(std::size(kShapesClasses)) + background;
  }
  if (data.format == DataFormat::kMnist) return kMnistClasses;
  return std::nullopt;
}

int required_num_classes(const Config& config) {
  const std::optional<int> known = configured_num_classes(config);
  if (!known) comm::fail(comm::ExitCode::kConfig, "{}", unknown_classes(""));
  return *known;
}

DataFacts data_facts(const Config& config, const std::string& split) {
  DataFacts facts;
  facts.num_classes = configured_num_classes(config).value_or(0);
  const DataConfig& data = config.data;
  facts.has_background = first_label(config) == 1;
  if (facts.has_background) facts.class_names.push_back("background");
  const auto& names = data.only.empty() ? data.classes : data.only;
  facts.class_names.insert(facts.class_names.end(), names.begin(), names.end());
  if (!data.splits.contains(split) && !split_is_optional(data.format)) {
    facts.absent = "data." + split + " is not given";
  } else {
    try {
      take_dataset(*open_dataset(data, {.split = split,
                                        .fields = fields_of(config.model.name),
                                        .model_num_classes = config.model.num_classes.value_or(0),
                                        .enforce = false}),
                   facts);
    } catch (const comm::Error& error) {
      if (error.code() != comm::ExitCode::kInputMissing && error.code() != comm::ExitCode::kData) {
        throw;
      }
      facts.absent = error.what();
    }
  }
  if (facts.num_classes == 0) {
    comm::fail(comm::ExitCode::kConfig, "{}", unknown_classes(" (" + facts.absent + ")"));
  }
  name_by_number(facts);
  return facts;
}

}  // namespace trainer
