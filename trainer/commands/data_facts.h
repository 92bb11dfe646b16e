#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/config/config.h"

namespace trainer {

// Classes as model.num_classes counts them (background included where the model has one), from
// model.num_classes, data.classes, the last of model.layers, or a built-in set; empty where only
// annotations know. Opens nothing.
std::optional<int> configured_num_classes(const Config& config);

// The same. Errors: kConfig naming the key where the configuration does not say.
int required_num_classes(const Config& config);

// What a run knows of its data before it decodes an image.
struct DataFacts {
  int num_classes = 0;                     // as above
  std::optional<std::int64_t> num_images;  // of the training split; empty: no annotations
  bool has_background = false;             // class 0 is it
  std::vector<std::string> class_names;    // by class index; a number where nothing names it
  std::string absent;                      // why the annotations were not read; empty: they were
};

// Reads the annotations of one split where they are present. Errors: kConfig where neither they nor
// the configuration know the number of classes, or where they contradict model.num_classes.
DataFacts data_facts(const Config& config, const std::string& split = "train");

}  // namespace trainer
