#pragma once

#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/progress.h"
#include "comm/signals.h"
#include "trainer/config/load.h"
#include "trainer/data/dataset.h"
#include "trainer/search/candidates.h"
#include "trainer/search/trial_table.h"

namespace trainer {

// The configuration with "KEY=VALUE" put on top. Errors: as load_config.
using LoadCandidate = std::function<LoadedConfig(const std::vector<std::string>& overrides)>;

struct TrialRunnerOptions {
  SearchDefinition definition;
  std::vector<Values> candidates;
  LoadCandidate load;
  std::filesystem::path out;  // of the search; a trial's run folder is OUT/trials/RUN_NAME
  int threads = 1;            // a rank
};

// Trains and measures trials, one at a time, on the ranks of one group. Data sets are read once and
// shared by the trials of this process.
class TrialRunner {
 public:
  // Loads every candidate, so that a file edited meanwhile changes nothing. Errors: as load.
  explicit TrialRunner(TrialRunnerOptions options);
  ~TrialRunner();

  // The values of a candidate, seed and threads set, the val split where folds make it.
  LoadedConfig configuration(const Trial& trial) const;

  // Trains for `share` of the schedule, continuing what the run folder holds. Collective over
  // `group`. A failure becomes part of the row. Errors: kStopped; kPeerLost, and what only one of
  // several ranks knows of.
  TrialRow run(const Trial& trial, double share, comm::Communicator& group,
               comm::Progress& progress, const comm::StopSignals& signals);

  // Deletes the checkpoints of a trial that will not be continued.
  void discard_checkpoints(const Trial& trial) const noexcept;

  // The training set of the configuration, or the parts of it that a fold has.
  std::unique_ptr<Dataset> open(const Trial& trial, const DataConfig& config,
                                const OpenOptions& options);

 private:
  struct Cached;
  std::shared_ptr<const Dataset> whole(const DataConfig& config, const OpenOptions& options);
  std::filesystem::path folder(const Trial& trial) const;
  const Values& values(const Trial& trial) const {
    return options_.candidates.at(static_cast<std::size_t>(trial.candidate));
  }

  TrialRunnerOptions options_;
  std::vector<LoadedConfig> configs_;  // of the candidates
  std::vector<Cached> cache_;          // a split each
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> console_;
};

}  // namespace trainer
