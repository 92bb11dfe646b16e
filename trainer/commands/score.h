#pragma once

#include <filesystem>
#include <string>

#include "trainer/eval/coco_eval.h"
#include "trainer/eval/metrics.h"

namespace trainer {

// `ridgeline score`: metrics of files, without a model.

// --annotations GT.json --detections DT.json [--type bbox|segm]
struct ScoreDetections {
  std::filesystem::path annotations, detections;
  IouType type = IouType::kBox;
  int threads = 1;
};

// --labels DIR --predictions DIR --num-classes K [--ignore 255]
struct ScoreLabels {
  std::filesystem::path labels, predictions;
  int num_classes = 0;
  int ignore = 255;  // negative: every label counts
};

// Errors: 66 missing files, 65 files that don't fit each other (naming entry and value).
Metrics score_detections(const ScoreDetections& options);

// Every file of `predictions` (but dot files), in byte order, against the file of that name in
// `labels`. Where `predictions` has a folder of that name, as the output of `eval` and `predict`
// has, the files of that. Errors: 64 num_classes out of range; 66 no predictions, or no such label
// image; 65 different sizes, a value >= num_classes (naming file and pixel), or no label image at
// all.
Metrics score_labels(const ScoreLabels& options);

// For a terminal: every metric with 4 digits, then the classes; undefined ones as "-".
std::string metrics_text(const Metrics& metrics);

// What the command does with them: writes metrics.json to `out` unless that is empty, returns the
// text for stdout. Errors: 74.
std::string report_score(const Metrics& metrics, const std::filesystem::path& out);

}  // namespace trainer
