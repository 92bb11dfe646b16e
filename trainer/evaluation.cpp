#include "trainer/evaluation.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <ranges>
#include <span>
#include <sstream>

#include "trainer/agree.h"
#include "trainer/data/loader.h"
#include "trainer/data/metrics_json.h"
#include "trainer/inference.h"
#include "trainer/report/append_file.h"

namespace trainer {
namespace {

LoaderOptions inference_input(const EvaluationContext& context, const Fields& fields) {
  LoaderOptions options;
  options.fields = fields;
  options.micro_batch = context.config.train.micro_batch;
  options.rank = context.communicator.rank();
  options.num_ranks = context.communicator.size();
  options.threads = context.loader_threads;
  options.device = context.network.stream().device();
  return options;
}

// This rank's share of the images, batch by batch.
class LocalInference {
 public:
  LocalInference(const EvaluationContext& context, const Fields& fields, const Visit& visit)
      : context_(context),
        visit_(visit),
        data_(evaluation_data(context.config)),
        loader_(Loader::evaluate(context.dataset, data_, inference_input(context, fields))),
        inference_(context.network, *loader_) {}

  std::int64_t num_batches() const { return loader_->num_local_micro_batches(); }
  const std::vector<LeftOut>& left_out() const { return loader_->left_out(); }
  // Nothing after the last one.
  void run_batch() {
    Batch* batch = inference_.next();
    if (!batch) return;
    context_.progress.publish(comm::Phase::kEval, count_++);
    const HostOutputs& outputs = inference_.run(*batch, context_.parameter_version);
    for (int n = 0; n < batch->valid; ++n) {
      const std::int64_t sample = batch->sample_id[static_cast<std::size_t>(n)];
      if (sample < 0) continue;  // left out
      require_finite(outputs, n, sample);
      visit_(outputs, *batch, n);
    }
  }

 private:
  void require_finite(const HostOutputs& outputs, int n, std::int64_t sample) const {
    const std::string output = outputs.non_finite(n);
    if (output.empty()) return;
    comm::fail(comm::ExitCode::kDiverged,
               "{}: the network's output '{}' is not finite: its weights have diverged; take those "
               "of an earlier checkpoint",
               trainer::quoted(context_.dataset.sample(sample).name), output);
  }

  const EvaluationContext& context_;
  const Visit& visit_;
  const DataConfig data_;
  std::unique_ptr<Loader> loader_;
  Inference inference_;
  std::int64_t count_ = 0;
};

// Those of all ranks on every rank, in order of the samples.
std::vector<LeftOut> gather_left_out(const std::vector<LeftOut>& mine,
                                     comm::Communicator& communicator) {
  std::ostringstream packed;
  for (const LeftOut& one : mine)
    packed << one.sample << ' ' << static_cast<int>(one.kind) << ' ' << one.message.size() << ' '
           << one.message;
  std::vector<LeftOut> all;
  for (const std::string& bytes : communicator.all_gather(packed.str())) {
    std::istringstream in(bytes);
    std::size_t size = 0;
    int kind = 0;
    for (LeftOut one; in >> one.sample >> kind >> size && in.get() == ' '; all.push_back(one)) {
      one.kind = static_cast<AnomalyKind>(kind);
      one.message.resize(size);
      in.read(one.message.data(), static_cast<std::streamsize>(size));
    }
  }
  std::ranges::sort(all, {}, &LeftOut::sample);
  return all;
}

}  // namespace

// The ranks go from batch to batch together, so that they can end together.
std::vector<LeftOut> infer(const EvaluationContext& context, const Fields& fields,
                           const Visit& visit) {
  comm::Communicator& communicator = context.communicator;
  std::optional<LocalInference> local;
  agree(communicator, context.progress, [&] { local.emplace(context, fields, visit); });
  std::int64_t rounds = local->num_batches();
  communicator.all_reduce(std::span(&rounds, 1), comm::Reduction::kMax);
  for (std::int64_t round = 0; round < rounds; ++round) {
    agree(communicator, context.progress, [&] {
      if (context.stop && context.stop())
        comm::fail(comm::ExitCode::kStopped, "stopped on request in an evaluation");
      local->run_batch();
    });
  }
  std::vector<LeftOut> left_out = gather_left_out(local->left_out(), communicator);
  agree(communicator, [&] {
    if (!left_out.empty()) enforce_skip_limit(context.dataset, context.config.data, left_out);
  });
  return left_out;
}

std::string left_out_text(const std::vector<LeftOut>& left_out, const Dataset& dataset) {
  std::string names;
  for (const LeftOut& one : left_out | std::views::take(AnomalyReport::kMaxNamed))
    names += (names.empty() ? "" : ", ") + trainer::quoted(dataset.sample(one.sample).name);
  return fmt::format("{} of {} images cannot be read and are left out: {}{}", left_out.size(),
                     dataset.size(), names,
                     std::ssize(left_out) > AnomalyReport::kMaxNamed ? ", ..." : "");
}

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
  Fields fields = fields_of(context.config.model.name);
  fields.boxes = false;  // scored against the annotations, not against what is fed
  evaluation.left_out =
      infer(context, fields, [&](const HostOutputs& outputs, const Batch& batch, int n) {
        evaluation.evaluator->add(outputs, batch, n);
      });
  evaluation.evaluator->gather(context.communicator);
  context.progress.publish(comm::Phase::kEval, context.dataset.size());
  agree(context.communicator, context.progress, [&] {
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
