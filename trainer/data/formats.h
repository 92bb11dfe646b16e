#pragma once

#include <memory>
#include <string>

#include "trainer/data/dataset.h"

// One factory a data format, each in FORMAT_dataset.cpp; open_dataset chooses among them and
// applies what all have in common. Internal to trainer/data.
namespace trainer {

struct FormatInput {
  const DataConfig& config;
  const SplitConfig& split;
  const std::string& split_name;
  Fields fields;
  int model_num_classes = 0;  // 0: not given
};

// Sets class_names, category_ids, labels and num_classes; anomalies are counted, never thrown.
// Errors: 78 for a split that lacks a key, 66 and 65 for files without which nothing can be read.
std::unique_ptr<Dataset> open_coco(const FormatInput& input);
std::unique_ptr<Dataset> open_voc(const FormatInput& input);
std::unique_ptr<Dataset> open_masks(const FormatInput& input);
std::unique_ptr<Dataset> open_mnist(const FormatInput& input);
std::unique_ptr<Dataset> open_folders(const FormatInput& input);
std::unique_ptr<Dataset> open_shapes(const FormatInput& input);

// 78: "data.SPLIT.KEY is missing: ...".
[[noreturn]] void missing_key(const FormatInput& input, const char* key, const char* what);

}  // namespace trainer
