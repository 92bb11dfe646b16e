#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/progress.h"
#include "comm/signals.h"
#include "trainer/checkpoint/run_folder.h"
#include "trainer/search/definition.h"
#include "trainer/search/search_report.h"
#include "trainer/search/trial_queue.h"
#include "trainer/search/trial_runner.h"

namespace trainer {

struct SearchOptions {
  SearchDefinition definition;
  int ranks_per_trial = 1;
  std::filesystem::path out;
  LoadCandidate load;
  std::function<void(const std::string&)> notify;  // a line for the console, from any rank
};

// Trials over groups of ranks as one job. Every group takes the next trial that nobody has; what a
// trial gives depends on its definition alone, so the result does not depend on the ranks.
class Search {
 public:
  // Collective. Locks OUT and checks it, the data and the configuration of every candidate.
  // Errors, on every rank: kUsage when the ranks do not divide into groups, kConfig, data errors,
  // kOutputBusy, kCheckpointRefused when OUT holds another search.
  Search(SearchOptions options, comm::Communicator& world, comm::Progress& progress,
         const comm::StopSignals& signals);

  // Runs what OUT/trials.csv does not hold yet, and again what failed there other than by
  // diverging. Collective; equal results on all ranks. Errors, on every rank: kStopped (finished
  // trials stand), kIo, kPeerLost; the first failure's code when every trial failed.
  SearchResult run();

 private:
  void open_folder();
  void check_candidates();
  void define(const DataFingerprints& data, const Config& config);
  TrialRows shared_rows();
  void run_rung(const std::vector<Trial>& trials, double share);
  bool run_next(const Trial& trial, double share);
  void require_success(const TrialRows& rows) const;
  void agree_on(const std::function<void()>& work);
  bool is_root() const { return world_.rank() == 0; }

  SearchOptions options_;
  comm::Communicator& world_;
  comm::Progress& progress_;
  const comm::StopSignals& signals_;
  std::vector<std::string> keys_;
  std::vector<Values> candidates_;
  std::string metric_;
  std::unique_ptr<RunFolder> folder_;
  std::unique_ptr<comm::Communicator> group_;
  std::unique_ptr<TrialRunner> runner_;
  TrialTable table_;
  TrialQueue queue_;
  bool more_rungs_ = false;  // after the one under way
  bool stopped_ = false;
};

}  // namespace trainer
