#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/progress.h"
#include "trainer/data/dataset.h"
#include "trainer/eval/metrics.h"
#include "trainer/network.h"
#include "trainer/tasks/evaluator.h"

namespace trainer {

// The data as evaluation and prediction see it: fitted into eval.size.
DataConfig evaluation_data(const Config& config);

// What an evaluation found; the metrics on rank 0 only.
struct Evaluation {
  Metrics metrics;
  std::unique_ptr<Evaluator> evaluator;
};

struct EvaluationContext {
  const Config& config;
  Network& network;
  const Dataset& dataset;
  comm::Communicator& communicator;
  comm::Progress& progress;
  int loader_threads = 1;
  std::int64_t parameter_version = 0;
  std::filesystem::path label_maps = {};  // predicted ones are written here; empty: not at all
};

// Evaluates a split spread over the ranks, every image once, the same numbers on any rank count.
// Collective. Errors: what reading an image throws, kIo, on all ranks.
Evaluation evaluate(const EvaluationContext& context);

// metrics.json and the task's own files into `folder`, the picture of predictions to `picture`.
// Errors: kIo.
void write_evaluation(const Evaluation& evaluation, const std::filesystem::path& folder,
                      const std::filesystem::path& picture);

// One number from rank 0 to all: the metric `path`; NaN where it is undefined or
// `path` empty. Errors: kConfig when
// the evaluation has no such metric, on all ranks.
double shared_metric(const Evaluation& evaluation, const std::string& path,
                     comm::Communicator& communicator);

}  // namespace trainer
