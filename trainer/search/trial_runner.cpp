#include "trainer/search/trial_runner.h"

#include <chrono>
#include <cmath>
#include <numeric>
#include <utility>

#include "trainer/agree.h"
#include "trainer/data/subset.h"
#include "trainer/search/folds.h"
#include "trainer/training_run.h"

namespace trainer {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool same(const OpenOptions& a, const OpenOptions& b) {
  return a.split == b.split && a.model_num_classes == b.model_num_classes &&
         a.fields.boxes == b.fields.boxes && a.fields.label_map == b.fields.label_map &&
         a.fields.label == b.fields.label;
}

}  // namespace

// A split as read with a configuration.
struct TrialRunner::Cached {
  DataConfig config;
  OpenOptions options;
  std::shared_ptr<const Dataset> dataset;
};

TrialRunner::TrialRunner(TrialRunnerOptions options)
    : options_(std::move(options)), console_(std::fopen("/dev/null", "w"), &std::fclose) {
  if (!console_) comm::fail(comm::ExitCode::kIo, "cannot open /dev/null; repair this system");
  for (const Values& point : options_.candidates) {
    std::vector<std::string> overrides;
    for (std::size_t k = 0; k < options_.definition.overs.size(); ++k) {
      overrides.push_back(options_.definition.overs[k].key + "=" + point[k]);
    }
    configs_.push_back(options_.load(overrides));
  }
}

TrialRunner::~TrialRunner() = default;

std::filesystem::path TrialRunner::folder(const Trial& trial) const {
  return options_.out / "trials" / trial.run_name();
}

LoadedConfig TrialRunner::configuration(const Trial& trial) const {
  LoadedConfig loaded = configs_.at(static_cast<std::size_t>(trial.candidate));
  Config& config = loaded.config;
  config.train.seed = trial.seed;
  config.runtime.threads = options_.threads;
  config.checkpoint.keep = 1;
  if (options_.definition.folds > 1) config.data.splits["val"] = config.data.splits["train"];
  return loaded;
}

std::shared_ptr<const Dataset> TrialRunner::whole(const DataConfig& config,
                                                  const OpenOptions& options) {
  for (Cached& cached : cache_) {
    if (cached.options.split != options.split) continue;
    if (cached.config != config || !same(cached.options, options))
      cached = {config, options, open_dataset(config, options)};
    return cached.dataset;
  }
  cache_.push_back({config, options, open_dataset(config, options)});
  return cache_.back().dataset;
}

std::unique_ptr<Dataset> TrialRunner::open(const Trial& trial, const DataConfig& config,
                                           const OpenOptions& options) {
  const SearchDefinition& definition = options_.definition;
  OpenOptions open = options;
  if (definition.folds > 1) open.split = "train";
  auto dataset = whole(config, open);
  if (definition.folds == 1) {
    std::vector<std::int64_t> all(static_cast<std::size_t>(dataset->size()));
    std::iota(all.begin(), all.end(), std::int64_t{0});
    return std::make_unique<SubsetDataset>(std::move(dataset), std::move(all));
  }
  const auto folds = assign_folds(sample_groups(*dataset, definition.group), definition.folds,
                                  static_cast<std::uint64_t>(trial.seed));
  Fold fold = fold_of(folds, trial.fold);
  return std::make_unique<SubsetDataset>(
      std::move(dataset), std::move(options.split == "train" ? fold.train : fold.held_out));
}

TrialRow TrialRunner::run(const Trial& trial, double share, comm::Communicator& group,
                          comm::Progress& progress, const comm::StopSignals& signals) {
  TrialRow row{trial.id(), values(trial), trial.seed, trial.fold, trial.rung};
  row.metric = row.train_metric = row.loss = std::nan("");
  const double start = now();
  progress.publish(comm::Phase::kInit, 0);
  // Its own, so that what a failed trial left in flight reaches nobody.
  const auto ranks = group.split(0);
  try {
    TrainingOptions options;
    options.out = folder(trial);
    options.trial = true;
    options.share = share;
    options.console = console_.get();
    options.open = [&](const DataConfig& config, const OpenOptions& what) {
      return open(trial, config, what);
    };
    const RunResult result =
        TrainingRun(configuration(trial), options, *ranks, progress, signals).run();
    row.steps = result.steps;
    row.metric = result.metric;
    row.train_metric = result.train_metric;
    row.loss = result.loss;
  } catch (const comm::Error& error) {
    const bool everyone = group.size() == 1 || dynamic_cast<const AgreedError*>(&error) != nullptr;
    if (error.code() == comm::ExitCode::kStopped || error.code() == comm::ExitCode::kPeerLost ||
        !everyone)
      throw;
    row.code = static_cast<int>(error.code());
    row.reason = error.what();
  }
  row.seconds = now() - start;
  return row;
}

void TrialRunner::discard_checkpoints(const Trial& trial) const noexcept {
  std::error_code ignored;
  std::filesystem::remove_all(folder(trial) / "checkpoints", ignored);
}

}  // namespace trainer
