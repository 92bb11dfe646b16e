#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/data/dataset.h"
#include "trainer/data/image.h"

// Predicted label maps as files: OUT/predictions/STEM.png, which `score` sets against its namesake.
namespace trainer {

inline constexpr const char* kLabelMapFolder = "predictions";

// A name for each file, without folder and extension: its stem, numbered where an earlier one has
// it ("cat", "cat-2").
std::vector<std::string> unique_stems(const std::vector<std::string>& files);
// The same of a data set's images, in its order.
std::vector<std::string> unique_stems(const Dataset& dataset);

// Which class indices a model predicts.
struct LabelRange {
  int num_classes = 0;
  bool has_background = true;
};

// Palette PNG in the colours of overlays; 16-bit gray with more than 256 classes. Errors: kIo.
void write_label_map(const std::filesystem::path& file, const LabelImage& labels,
                     const LabelRange& range);

}  // namespace trainer
