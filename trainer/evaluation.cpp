#include "trainer/evaluation.h"

#include <limits>

#include "trainer/agree.h"
#include "trainer/data/loader.h"
#include "trainer/data/metrics_json.h"
#include "trainer/inference.h"
#include "trainer/report/append_file.h"

namespace trainer {
namespace {

// This rank's share of the images.
void evaluate_local(const EvaluationContext& context, Evaluator& evaluator) {
  LoaderOptions options;
  options.fields = fields_of(context.config.model.name);
  options.fields.boxes = false;  // scored against the annotations, not against what is fed
  options.seed = static_cast<std::uint64_t>(context.config.train.seed);
  options.micro_batch = context.config.train.micro_batch;
  options.rank = context.communicator.rank();
  options.num_ranks = context.communicator.size();
  options.threads = context.loader_threads;
  options.device = context.network.stream().device();
  const DataConfig data = evaluation_data(context.config);
  const auto loader = Loader::evaluate(context.dataset, data, options);
  Inference inference(context.network, *loader);
  std::int64_t count = 0;
  while (Batch* batch = inference.next()) {
    context.progress.publish(comm::Phase::kEval, count++);
    const HostOutputs& outputs = inference.run(*batch, context.parameter_version);
    for (int n = 0; n < batch->valid; ++n) {
      // -1: left out by on_error: skip
      if (batch->sample_id[static_cast<std::size_t>(n)] >= 0) evaluator.add(outputs, *batch, n);
    }
  }
}

}  // namespace

DataConfig evaluation_data(const Config& config) {
  DataConfig data = config.data;
  data.size = evaluation_sizes(config);
  return data;
}

Evaluation evaluate(const EvaluationContext& context) {
  const models::Model& model = context.network.model();
  Evaluation evaluation;
  evaluation.evaluator =
      make_evaluator(model.task(), context.config, context.dataset,
                     {context.network.num_classes(), context.label_maps});
  agree(context.communicator, [&] { evaluate_local(context, *evaluation.evaluator); });
  evaluation.evaluator->gather(context.communicator);
  agree(context.communicator, [&] {
    if (context.communicator.rank() == 0) evaluation.metrics = evaluation.evaluator->metrics();
  });
  return evaluation;
}

double shared_metric(const Evaluation& evaluation, const std::string& path,
                     comm::Communicator& communicator) {
  double value = std::numeric_limits<double>::quiet_NaN();
  if (path.empty()) return value;
  agree(communicator, [&] {
    if (communicator.rank() != 0) return;
    const double* found = evaluation.metrics.find(path);
    if (!found) {
      std::string known;
      for (const auto& [name, number] : evaluation.metrics.flat()) known += " " + name;
      comm::fail(comm::ExitCode::kConfig, "checkpoint.best: no metric '{}'; there are:{}", path,
                 known);
    }
    value = *found;
  });
  communicator.broadcast(std::as_writable_bytes(std::span<double>(&value, 1)), 0);
  return value;
}

void write_evaluation(const Evaluation& evaluation, const std::filesystem::path& folder,
                      const std::filesystem::path& picture) {
  write_file(folder / "metrics.json", metrics_json(evaluation.metrics));
  evaluation.evaluator->write(folder);
  make_folders(picture.parent_path());
  write_png(picture, evaluation.evaluator->picture());
}

}  // namespace trainer
