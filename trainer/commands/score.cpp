#include "trainer/commands/score.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "comm/error.h"
#include "trainer/data/anomalies.h"
#include "trainer/data/coco_eval_input.h"
#include "trainer/data/image.h"
#include "trainer/data/metrics_json.h"
#include "trainer/eval/segmentation_eval.h"
#include "trainer/report/append_file.h"
#include "trainer/report/text_table.h"
#include "trainer/tasks/label_maps.h"

namespace trainer {
namespace {

using comm::ExitCode;
using comm::fail;
namespace fs = std::filesystem;

constexpr int kMaxClasses = 4096;  // the confusion matrix then takes 128 MiB

std::string shown_path(const fs::path& path) { return trainer::quoted(path.string()); }

std::vector<fs::path> files_of(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> files;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const bool hidden = entry->path().filename().string().starts_with('.');
    if (!hidden && !entry->is_directory()) files.push_back(entry->path());
  }
  if (error) {
    fail(ExitCode::kInputMissing, "{}: can't be listed: {}", shown_path(folder), error.message());
  }
  if (files.empty()) {
    fail(ExitCode::kInputMissing, "{}: holds no file; it takes one PNG per image",
         shown_path(folder));
  }
  std::sort(files.begin(), files.end());
  return files;
}

// Of the first pixel that add() refused.
[[noreturn]] void fail_value(const fs::path& label, const fs::path& prediction,
                             const SegmentationConfusion& confusion, std::int64_t pixel,
                             const LabelImage& truth, const LabelImage& found) {
  const auto at = static_cast<std::size_t>(pixel);
  const bool is_label = truth.pixels[at] >= confusion.num_classes();
  fail(ExitCode::kData, "{}: value {} at x = {}, y = {}, but there are {} classes (0 to {}); {}",
       shown_path(is_label ? label : prediction), (is_label ? truth : found).pixels[at],
       pixel % truth.width, pixel / truth.width, confusion.num_classes(),
       confusion.num_classes() - 1,
       is_label ? "give --ignore or a larger --num-classes" : "correct the file");
}

void add_image(const fs::path& label, const fs::path& prediction,
               SegmentationConfusion& confusion) {
  if (!fs::exists(label)) {
    fail(ExitCode::kInputMissing, "{}: no such label image, for {}", shown_path(label),
         shown_path(prediction));
  }
  const LabelImage truth = read_label_image(label), found = read_label_image(prediction);
  if (truth.width != found.width || truth.height != found.height) {
    fail(ExitCode::kData, "{}: is {} x {}, but {} is {} x {}; predict at the label's size",
         shown_path(prediction), found.width, found.height, shown_path(label), truth.width,
         truth.height);
  }
  const std::int64_t bad = confusion.add(truth.pixels, found.pixels);
  if (bad >= 0) fail_value(label, prediction, confusion, bad, truth, found);
}

CocoEvalData combine(const ScoreDetections& options, const CocoAnnotations& annotations) {
  const std::vector<CocoDetection> detections = read_coco_detections(options.detections);
  try {
    return coco_eval_data(annotations, detections, options.type);
  } catch (const comm::Error& error) {
    fail(error.code(), "{} with {}: {}", shown_path(options.annotations),
         shown_path(options.detections), error.what());
  }
}

std::string shown_value(double value) {
  return std::isnan(value) ? "-" : fmt::format("{:.4f}", value);
}

std::string table(const std::string& title, const NamedValues& values) {
  TextTable text({{title, Align::kLeft}, {"value", Align::kRight}});
  for (const auto& [name, value] : values) text.row({name, shown_value(value)});
  return text.text();
}

}  // namespace

Metrics score_detections(const ScoreDetections& options) {
  const bool masks = options.type == IouType::kMask;
  const CocoAnnotations annotations =
      read_coco_annotations(options.annotations, {.segmentations = masks});
  const CocoEvalData data = combine(options, annotations);
  const CocoResult result = evaluate_coco(data.input(), options.type, options.threads);
  return {{coco_metrics(result, masks ? "segm" : "bbox", data.category_names)}};
}

Metrics score_labels(const ScoreLabels& options) {
  if (options.num_classes < 1 || options.num_classes > kMaxClasses) {
    fail(ExitCode::kUsage, "--num-classes {}: takes 1 to {}, background included",
         options.num_classes, kMaxClasses);
  }
  SegmentationConfusion confusion(options.num_classes, options.ignore);
  const fs::path label_maps = options.predictions / kLabelMapFolder;
  for (const fs::path& prediction :
       files_of(fs::is_directory(label_maps) ? label_maps : options.predictions)) {
    add_image(options.labels / prediction.filename(), prediction, confusion);
  }
  std::vector<std::string> names;
  for (int c = 0; c < options.num_classes; ++c) names.push_back(std::to_string(c));
  return {{confusion.metrics(names)}};
}

std::string metrics_text(const Metrics& metrics) {
  std::string text;
  for (const MetricGroup& group : metrics.groups) {
    if (!text.empty()) text += '\n';
    text += table(group.name, group.values);
    if (!group.per_class.empty()) text += '\n' + table(group.name + " per class", group.per_class);
  }
  return text;
}

std::string report_score(const Metrics& metrics, const fs::path& out) {
  if (!out.empty()) write_file(out, metrics_json(metrics));
  return metrics_text(metrics);
}

}  // namespace trainer
