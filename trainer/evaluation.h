#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/progress.h"
#include "trainer/data/batch.h"
#include "trainer/data/dataset.h"
#include "trainer/data/detections_json.h"
#include "trainer/eval/metrics.h"
#include "trainer/network.h"

namespace trainer {

// One detection in pixels of the original image.
struct Found {
  std::int64_t sample = 0;
  std::int32_t label = 0;
  float score = 0;
  double box[4] = {};  // x1, y1, x2, y2
};

// What an evaluation found; on rank 0 only, empty elsewhere.
struct Evaluation {
  Metrics metrics;
  std::vector<Found> found;  // by sample, best first
};

struct EvaluationContext {
  const Config& config;
  Network& network;
  const Dataset& dataset;
  comm::Communicator& communicator;
  comm::Progress& progress;
  int loader_threads = 1;
  std::int64_t parameter_version = 0;
};

// Evaluates a split spread over the ranks, every image once, the same numbers on any rank count.
// Collective. Errors: what reading an image throws, on all ranks.
Evaluation evaluate(const EvaluationContext& context);

// metrics.json, detections.json, pr_curve.svg and confusion.svg into `folder`. Errors: kIo.
void write_evaluation(const Evaluation& evaluation, const Dataset& dataset,
                      const std::filesystem::path& folder);

// The results-file form of detections.
std::vector<CocoDetection> coco_detections(const std::vector<Found>& found,
                                           const Dataset& dataset);

// Detections of image n of a batch whose inference plan has just run.
std::vector<Found> read_detections(const models::Executable& executable, const Batch& batch, int n);

// One number from rank 0 to all: the metric `path`; NaN where it is undefined. Errors: kConfig when
// the evaluation has no such metric, on all ranks.
double shared_metric(const Evaluation& evaluation, const std::string& path,
                     comm::Communicator& communicator);

}  // namespace trainer
