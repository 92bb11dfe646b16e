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

// With the weights that eval.weights names; the raw ones stay, however it ends.
Evaluation TrainingRun::evaluate_weights(const Dataset& dataset, std::int64_t step) {
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
  const auto put_back = [&] {
    if (!averaged) return;
    comm::copy_bytes(stream, parameters.bytes(), raw.bytes());
    stream.synchronize();
  };
  EvaluationContext context{config_,   *network_,        dataset,  communicator_,
                            progress_, loader_threads(), -2 - step};
  context.stop = [this] { return signals_.requested(); };
  try {
    Evaluation evaluation = evaluate(context);
    put_back();
    return evaluation;
  } catch (const AgreedError&) {
    put_back();
    throw;
  }
}

// What ends an evaluation early does not cost the steps before it; the evaluation itself is owed.
TrainingRun::Measured TrainingRun::evaluate_on(const Dataset& dataset, std::int64_t step) {
  try {
    Measured measured{evaluate_weights(dataset, step)};
    if (is_root() && !measured.evaluation.left_out.empty())
      log_->warning("{}", left_out_text(measured.evaluation.left_out, dataset));
    measured.value = shared_metric(measured.evaluation, config_.checkpoint.best, communicator_);
    return measured;
  } catch (const AgreedError& error) {
    if (error.code() == comm::ExitCode::kStopped) stop(step);
    if (error.code() != comm::ExitCode::kDiverged) save(step, false, true);
    throw;
  }
}

void TrainingRun::measure() {
  if (!val_) return;
  result_.metric = evaluate_on(*val_, result_.steps).value;
  const auto part = spread_indices(train_->size(), val_->size());
  result_.train_metric = evaluate_on(SubsetDataset(train_, part), result_.steps).value;
  log_->info("trial: {} {:.4f}, on training images {:.4f}", config_.checkpoint.best, result_.metric,
             result_.train_metric);
}

// Saves if this is the best so far, or asked to, before anything is reported.
void TrainingRun::evaluate_now(std::int64_t step, bool saves) {
  const auto [evaluation, value] = evaluate_on(*val_, step);
  evaluation_owed_ = false;
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
  if (best || saves) save(step, best, false);
  report([&] { record_evaluation(evaluation, step); });
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
