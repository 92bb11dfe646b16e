#pragma once

#include <cstdint>
#include <vector>

#include "trainer/data/dataset.h"

namespace trainer {

struct CheckResult {
  AnomalyReport anomalies;  // of the files; those of the annotations are dataset.anomalies()
  // With fields.label_map, by class index: pixels, and images with any; then the pixels ignored.
  std::vector<std::int64_t> class_pixels, class_images;
  std::int64_t ignored_pixels = 0;
};

// Decodes every image (and label map) of a split as training would. The same result, in the order
// of the samples, on any number of threads. Errors: what on_error does not govern (74 ...).
CheckResult check_samples(const Dataset& dataset, const DataConfig& config, const Fields& fields,
                          int threads);

}  // namespace trainer
