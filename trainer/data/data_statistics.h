#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/data/dataset.h"

namespace trainer {

struct ClassStatistics {
  std::string name;
  int label = 0;               // class index
  std::int64_t boxes = 0;      // trained on
  std::int64_t crowds = 0;     // not trained on
  std::int64_t difficult = 0;  // of `boxes`
  std::int64_t images = 0;     // with such a box, or of this class
};

struct Range {
  double min = 0, median = 0, max = 0;  // 0 without values
};

struct DataStatistics {
  std::int64_t num_images = 0;
  bool has_boxes = false;                 // the format knows boxes
  std::int64_t num_boxes = 0;             // trained on
  std::int64_t images_without_boxes = 0;  // 0 for sets that have no boxes at all
  std::int64_t max_boxes = 0;             // in one image
  Range width, height;                    // pixels, of the annotations, else of the file's header
  Range box_side;                         // sqrt(w h), original pixels
  std::vector<ClassStatistics> classes;
  std::vector<std::int64_t> images_of_bucket;  // data.size; empty with one
};

DataStatistics data_statistics(const Dataset& dataset, const DataConfig& config);

}  // namespace trainer
