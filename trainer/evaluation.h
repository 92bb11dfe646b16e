#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/progress.h"
#include "trainer/data/loader.h"
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
  std::vector<LeftOut> left_out;  // in no number and no file of it
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
  std::function<bool()> stop = {};  // whether this rank is asked to; asked between two batches
};

// Told what the network puts out for image n of a batch.
using Visit = std::function<void(const HostOutputs& outputs, const Batch& batch, int n)>;

// Brings every image of the data set through the network once, spread over the ranks, each of which
// visits its own. Returns what data.on_error: skip left out on any rank, in order of the samples;
// neither that nor data.skip_limit depends on the number of ranks. Collective. Errors, on all ranks
// as soon as one has it: what reading an image or `visit` throws; kStopped when `stop` was true;
// kDiverged for outputs that are not finite. At the end: 65, 66 beyond data.skip_limit.
std::vector<LeftOut> infer(const EvaluationContext& context, const Fields& fields,
                           const Visit& visit);

// "2 of 9 images cannot be read and are left out: 'a.jpg', 'b.jpg'"
std::string left_out_text(const std::vector<LeftOut>& left_out, const Dataset& dataset);

// Evaluates a split spread over the ranks, every image once, the same numbers on any rank count.
// Collective. Errors: as infer; kIo.
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
