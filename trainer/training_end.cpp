// How a run ends, and what it says then.
#include <algorithm>

#include "trainer/report/run_curves.h"
#include "trainer/training_run.h"

namespace trainer {

void TrainingRun::stop(std::int64_t step) {
  save(step, false, true);
  throw AgreedError(comm::ExitCode::kStopped,
                    fmt::format("stopped on request after step {}", step));
}

// Does without what cannot be written: a report is not worth the run.
void TrainingRun::report(const std::function<void()>& write) {
  if (!is_root() || options_.trial) return;
  const Failure failure = capture(write);
  if (!failure) return;
  ++num_failed_reports_;
  log_->warning("a report was not written: {}; training goes on, failure {}", failure.text,
                num_failed_reports_);
}

void TrainingRun::finish() {
  const std::int64_t step = std::max(first_step_, stopped_early_ ? *stopped_early_ : last_step());
  result_.steps = step;
  const bool wanted = !options_.trial || step < length_.total_steps;
  if (wanted) {
    save(step, false, true);
  } else {
    store_->finish();
  }
  log_->progress("");
  report([&] { draw_run_curves(options_.out / "metrics.jsonl", options_.out / "pictures"); });
  log_->info("done: {} steps; {} holds checkpoints, metrics and pictures{}", step,
             options_.out.string(),
             num_failed_reports_ == 0
                 ? ""
                 : fmt::format("; {} reports are missing, see the warnings", num_failed_reports_));
  if (options_.trial) measure();
}

// The error as it is said, with what is saved and what to do. A save in flight is finished: all
// ranks are here.
AgreedError TrainingRun::ended_by(const AgreedError& error) {
  std::string text = error.what();
  if (store_) {
    try {
      store_->finish();
    } catch (const AgreedError&) {  // nothing more is saved; the first error is the one to say
    }
    if (!options_.trial) text += "; " + saved_and_next(error.code());
  }
  if (log_ && is_root()) {
    log_->record(LogLevel::kError,
                 fmt::format("exit code {}: {}", static_cast<int>(error.code()), text));
  }
  return {error.code(), text};
}

std::string TrainingRun::saved_and_next(comm::ExitCode code) const {
  const bool any = saved_step() >= 0;
  std::string text = any ? fmt::format("step {} is saved in {}", saved_step(),
                                       (options_.out / "checkpoints").string())
                         : "nothing is saved";
  if (code == comm::ExitCode::kStopped) {
    text += fmt::format("; run the same command{} to continue",
                        options_.resume == "never" ? " with --resume auto" : "");
  } else if (code == comm::ExitCode::kDiverged) {
    text += any ? fmt::format(
                      "; start another --out with --init {} and a lower optimizer.lr or "
                      "clip.norm",
                      options_.out.string())
                : "; start again with a lower optimizer.lr or clip.norm";
  }
  return text;
}

}  // namespace trainer
