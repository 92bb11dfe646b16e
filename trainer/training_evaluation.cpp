// The evaluations of a run.
#include <algorithm>
#include <cmath>

#include "trainer/agree.h"
#include "trainer/data/subset.h"
#include "trainer/report/run_curves.h"
#include "trainer/training_run.h"

namespace trainer {
namespace {

std::vector<NamedValue> named(const NamedValues& values) {
  std::vector<NamedValue> result;
  for (const auto& [name, value] : values) result.push_back({name, value});
  return result;
}

}  // namespace

bool TrainingRun::evaluation_due(std::int64_t step) const {
  if (!val_ || (options_.trial && config_.train.early_stop == 0)) return false;
  if (step == length_.total_steps) {
    return config_.eval.every_epochs > 0 || config_.eval.every_steps > 0;
  }
  if (config_.eval.every_steps > 0 && step % config_.eval.every_steps == 0) return true;
  if (config_.eval.every_epochs <= 0) return false;
  const auto epochs = [&](std::int64_t s) {
    return static_cast<std::int64_t>(loader_->sampler().epochs_of_steps(s)) /
           config_.eval.every_epochs;
  };
  return epochs(step) > epochs(step - 1);
}

// With the weights that eval.weights names.
Evaluation TrainingRun::evaluate_on(const Dataset& dataset, std::int64_t step) {
  progress_.publish(comm::Phase::kEval, step);
  optimizer_->finish();
  comm::Buffer raw;
  const bool averaged = config_.eval.weights == EvalWeights::kEma && optimizer_->has_ema();
  auto& parameters = network_->storage().parameters;
  const comm::StreamView stream = *stream_;
  if (averaged) {  // evaluate the average, then put the weights back
    raw = comm::Buffer(stream.device(), parameters.size_bytes());
    comm::copy_bytes(stream, raw.bytes(), parameters.bytes());
    comm::Buffer whole(stream.device(), parameters.size_bytes());
    optimizer_->gather_ema(whole);
    comm::copy_bytes(stream, parameters.bytes(), whole.bytes());
    stream.synchronize();  // before `whole` is released
  }
  Evaluation evaluation = evaluate(
      {config_, *network_, dataset, communicator_, progress_, loader_threads(), -2 - step});
  if (averaged) {
    comm::copy_bytes(stream, parameters.bytes(), raw.bytes());
    stream.synchronize();
  }
  return evaluation;
}

void TrainingRun::measure() {
  const auto metric_on = [&](const Dataset& dataset) {
    return shared_metric(evaluate_on(dataset, result_.steps), config_.checkpoint.best,
                         communicator_);
  };
  if (!val_) return;
  result_.metric = metric_on(*val_);
  const auto part = spread_indices(train_->size(), val_->size());
  result_.train_metric = metric_on(SubsetDataset(train_, part));
  log_->info("trial: {} {:.4f}, on training images {:.4f}", config_.checkpoint.best, result_.metric,
             result_.train_metric);
}

// Returns whether this is the best so far.
bool TrainingRun::evaluate_now(std::int64_t step) {
  const Evaluation evaluation = evaluate_on(*val_, step);
  const double value = shared_metric(evaluation, config_.checkpoint.best, communicator_);
  agree(communicator_, [&] {
    if (is_root() && !options_.trial) record_evaluation(evaluation, step);
  });
  const bool best = std::isfinite(value) && !(value <= best_);
  if (best) best_ = value;
  evaluations_without_best_ = best ? 0 : evaluations_without_best_ + 1;
  if (config_.train.early_stop > 0 && evaluations_without_best_ >= config_.train.early_stop) {
    log_->info("early stop: {} evaluations without a better {}", evaluations_without_best_,
               config_.checkpoint.best);
    stopped_early_ = step;
  }
  log_->info("evaluation at step {}: {} {}{}", step, config_.checkpoint.best,
             std::isfinite(value) ? fmt::format("{:.4f}", value) : "-", best ? " (best)" : "");
  return best;
}

void TrainingRun::record_evaluation(const Evaluation& evaluation, std::int64_t step) {
  const std::vector<NamedValue> values = named(evaluation.metrics.flat());
  metrics_->evaluation(step, "val", values);
  events_->scalars(step, values);
  const auto folder = options_.out / "eval" / fmt::format("step-{:08}", step);
  write_evaluation(evaluation, folder, options_.out / "pictures" / "predictions.png");
  draw_run_curves(options_.out / "metrics.jsonl", options_.out / "pictures");
}

}  // namespace trainer
