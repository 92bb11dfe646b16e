#pragma once

#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "comm/communicator.h"
#include "comm/progress.h"
#include "comm/signals.h"
#include "trainer/agree.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/run_folder.h"
#include "trainer/checkpoint/store.h"
#include "trainer/config/load.h"
#include "trainer/data/dataset.h"
#include "trainer/evaluation.h"
#include "trainer/report/events_file.h"
#include "trainer/report/metrics_file.h"
#include "trainer/report/run_log.h"
#include "trainer/report/step_meter.h"
#include "trainer/trainer.h"

namespace trainer {

using DatasetOpener =
    std::function<std::unique_ptr<Dataset>(const DataConfig& config, const OpenOptions& options)>;

struct TrainingOptions {
  std::filesystem::path out;    // run folder
  std::string resume = "auto";  // auto | never | path of a checkpoint
  std::string init;             // HDF5 weights or a checkpoint
  bool init_partial = false;
  std::string init_backbone;  // HDF5 by torchvision's classification names
  bool check = false;         // one step per rank, then an estimate

  // A trial of a search: no pictures, evaluated once, at its end (or as train.early_stop needs).
  bool trial = false;
  double share = 1;  // of the schedule, in (0, 1]; less: ends early with a checkpoint to go on from
  std::FILE* console = stdout;
  DatasetOpener open = open_dataset;
};

// What a trial measured with its last weights; NaN where undefined. `metric` and `train_metric` are
// checkpoint.best, of the val split and of as many training samples, not augmented.
struct RunResult {
  std::int64_t steps = 0;
  double metric = kUndefined, train_metric = kUndefined;
  double loss = kUndefined;  // of the last step
};

// A run from its folder to its last checkpoint: everything around Trainer::step.
class TrainingRun {
 public:
  TrainingRun(const LoadedConfig& config, const TrainingOptions& options,
              comm::Communicator& communicator, comm::Progress& progress,
              const comm::StopSignals& signals);
  ~TrainingRun();

  // Trains to the end, or until asked to stop. Collective; the result is that of a trial.
  // Errors, agreed by all ranks, each saying what is saved: see Trainer::step; kStopped after the
  // checkpoint of a stop.
  RunResult run();

 private:
  void open_folder();
  void find_checkpoint();
  void choose_threads();
  void open_data();
  void require_same_data();
  void build();
  std::string kernels() const;
  void require_same_kernels();
  void load_initial_weights();
  void restore();
  void restore_best(const CheckpointMeta& meta);
  void start();
  void open_outputs();
  void greet();
  void train();
  AgreedError ended_by(const AgreedError& error);
  std::string saved_and_next(comm::ExitCode code) const;
  void report_check(const StepReport& report);
  void record_step(StepReport& report);
  bool save_due(std::int64_t step) const;
  bool acts_after(std::int64_t step, const StepVotes& votes) const;
  void after_step(std::int64_t step, const StepVotes& votes);
  [[noreturn]] void stop(std::int64_t step);
  void report(const std::function<void()>& write);
  std::int64_t last_step() const;
  void finish();
  void measure();
  bool evaluation_due(std::int64_t step) const;
  void evaluate_now(std::int64_t step, bool saves);
  struct Measured {
    Evaluation evaluation;
    double value = kUndefined;  // of checkpoint.best
  };
  Measured evaluate_on(const Dataset& dataset, std::int64_t step);
  Evaluation evaluate_weights(const Dataset& dataset, std::int64_t step);
  void record_evaluation(const Evaluation& evaluation, std::int64_t step);
  std::vector<ConfigEntry> identity() const;
  void prepare_saves();
  Snapshot snapshot(std::int64_t step, bool best);
  void save(std::int64_t step, bool best, bool final);
  std::int64_t saved_step() const;  // a run started again continues from it; -1: none
  int loader_threads() const;
  std::uint64_t val_fingerprint() const { return val_ ? val_->fingerprint() : 0; }
  bool is_root() const { return communicator_.rank() == 0; }

  LoadedConfig loaded_;
  Config config_;
  TrainingOptions options_;
  comm::Communicator& communicator_;
  comm::Progress& progress_;
  const comm::StopSignals& signals_;
  int threads_ = 1;
  int num_classes_ = 0;
  std::unique_ptr<comm::Stream> stream_;
  std::unique_ptr<RunFolder> folder_;
  std::unique_ptr<RunLog> log_;
  std::optional<Checkpoint> checkpoint_;  // the run continues from it
  std::shared_ptr<Dataset> train_;
  std::unique_ptr<Dataset> val_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<comm::Communicator> bulk_;  // of a GPU: gradients and parameters travel by it
  std::unique_ptr<ShardedOptimizer> optimizer_;
  std::unique_ptr<Loader> loader_;
  std::unique_ptr<CheckpointStore> store_;
  std::unique_ptr<MetricsFile> metrics_;  // rank 0
  std::unique_ptr<EventsFile> events_;    // rank 0
  std::unique_ptr<StepMeter> meter_;
  RunLength length_;
  std::int64_t first_step_ = 0;
  std::int64_t resumed_step_ = -1;  // of a checkpoint in the folder; -1: none
  std::int64_t counter_ = 0;  // value of num_batches_tracked
  double best_ = kUndefined;
  std::int64_t evaluations_without_best_ = 0;
  std::optional<std::int64_t> stopped_early_;
  bool evaluation_owed_ = false;  // of the newest step; a run stopped before it evaluates at resume
  int num_failed_reports_ = 0;
  RunResult result_;
  double last_save_seconds_ = 0;
  comm::Buffer ema_;  // averaged weights, whole; read by a save
  HostMirror host_parameters_, host_ema_;  // likewise
};

}  // namespace trainer
