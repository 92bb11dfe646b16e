#include "trainer/search/search.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "comm/threads.h"
#include "trainer/agree.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/device.h"
#include "trainer/feed.h"
#include "trainer/report/append_file.h"
#include "trainer/search/definition.h"
#include "trainer/search/folds.h"

namespace trainer {
namespace {

constexpr std::uint64_t kMaxDefinitionBytes = 1 << 20;

std::vector<std::string> keys_of(const SearchDefinition& definition) {
  std::vector<std::string> keys;
  for (const Over& over : definition.overs) keys.push_back(over.key);
  return keys;
}

std::string read_text(const std::filesystem::path& file) {
  const auto bytes = read_whole(file, kMaxDefinitionBytes);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// A trial that another try would repeat.
bool is_final(const TrialRow& row) {
  return row.code == 0 || row.code == static_cast<int>(comm::ExitCode::kDiverged);
}

TrialRows rows_of_rung(const TrialRows& rows, int rung) {
  TrialRows result;
  for (const auto& [id, row] : rows) {
    if (row.rung == rung) result.emplace(id, row);
  }
  return result;
}

}  // namespace

Search::Search(SearchOptions options, comm::Communicator& world, comm::Progress& progress,
               const comm::StopSignals& signals)
    : options_(std::move(options)),
      world_(world),
      progress_(progress),
      signals_(signals),
      keys_(keys_of(options_.definition)),
      table_(options_.out / "trials.csv", keys_),
      queue_(options_.out / "claims") {
  agree(world_, [&] {
    if (world_.size() % options_.ranks_per_trial != 0)
      comm::fail(comm::ExitCode::kUsage,
                 "--ranks-per-trial {}: {} ranks do not divide into such groups; start a multiple",
                 options_.ranks_per_trial, world_.size());
    candidates_ = candidates(options_.definition);
  });
  group_ = world_.split(world_.rank() / options_.ranks_per_trial);
  const auto notify = [this](const std::string& line) {
    if (is_root()) options_.notify(line);
  };
  folder_ = std::make_unique<RunFolder>(options_.out, world_, notify);
  open_folder();
  check_candidates();
}

// The threads of the first start; then the runner.
void Search::open_folder() {
  const int automatic = comm::default_threads(world_);
  std::string saved(64, ' ');
  agree(world_, [&] {
    const auto file = options_.out / "definition.txt";
    if (is_root() && std::filesystem::exists(file))
      saved = fmt::format("{:<64}", threads_of_definition(read_text(file)));
  });
  world_.broadcast(std::as_writable_bytes(std::span(saved)), 0);
  const int before = std::atoi(saved.c_str());
  agree(world_, [&] {
    const Config config = options_.load({}).config;
    const int threads = config.runtime.threads > 0 ? config.runtime.threads
                        : before > 0               ? before
                                                   : automatic;
    metric_ = config.checkpoint.best;
    runner_ = std::make_unique<TrialRunner>(
        TrialRunnerOptions{options_.definition, candidates_, options_.load, options_.out, threads});
  });
}

void Search::check_candidates() {
  agree(world_, [&] {
    const SearchDefinition& definition = options_.definition;
    for (std::size_t c = 0; c < candidates_.size(); ++c) {
      const Config config =
          runner_->configuration({static_cast<int>(c), definition.first_seed}).config;
      if (!config.data.splits.contains("val"))
        comm::fail(comm::ExitCode::kConfig,
                   "data.val is missing and --folds is 1: nothing to validate on; add data.val or "
                   "--folds 5");
      if (definition.strategy == Strategy::kHalving && config.train.early_stop > 0)
        comm::fail(comm::ExitCode::kConfig,
                   "train.early_stop and --strategy halving both end runs early; set "
                   "train.early_stop=0");
      if (metric_.empty())
        comm::fail(comm::ExitCode::kConfig,
                   "checkpoint.best is empty: it names the metric that trials are compared by");
      if (config.checkpoint.best != metric_)
        comm::fail(comm::ExitCode::kConfig,
                   "the candidates are measured by {} and by {}; search over one task", metric_,
                   config.checkpoint.best);
    }
    const LoadedConfig first = runner_->configuration({0, definition.first_seed});
    OpenOptions open;
    open.fields = fields_of(first.config.model.name);
    open.model_num_classes = first.config.model.num_classes.value_or(0);
    const Trial trial{0, definition.first_seed};
    DataFingerprints data{runner_->open(trial, first.config.data, open)->fingerprint()};
    open.split = "val";
    if (definition.folds == 1)
      data.val = runner_->open(trial, first.config.data, open)->fingerprint();
    if (is_root()) define(data, options_.load({}).config);
  });
}

// Compares with, or writes, what the folder is for.
void Search::define(const DataFingerprints& data, const Config& config) {
  const auto file = options_.out / "definition.txt";
  const RuntimeConfig runtime =
      runner_->configuration({0, options_.definition.first_seed}).config.runtime;
  const comm::DeviceKind device = rank_device(runtime, gpu_view(), 0).kind;
  const bool bf16 = device == comm::DeviceKind::kCuda && runtime.precision != Precision::kFp32;
  const std::string text =
      definition_text(options_.definition, config, data, {device, bf16, runtime.threads});
  if (std::filesystem::exists(file)) {
    require_same_definition(read_text(file), text, options_.out.string());
  } else {
    write_file(file, text);
  }
  table_.repair();
}

TrialRows Search::shared_rows() {
  std::string text;
  agree_on([&] {
    if (is_root()) text = table_.text();
  });
  text = world_.all_gather(text).front();
  TrialRows rows;
  agree(world_, [&] { rows = read_csv(text, keys_); });
  return rows;
}

// Every rank's error, or nobody's; waiting for other groups is no standing still.
void Search::agree_on(const std::function<void()>& work) {
  bool alone = false;
  const Failure mine = capture([&] {
    try {
      work();
    } catch (const AgreedError& error) {  // agreed by a group, unknown to the others
      throw comm::Error(error.code(), error.what());
    } catch (...) {
      alone = group_->size() > 1;
      throw;
    }
  });
  if (mine) queue_.close();
  // The others of its group wait for it in the trial: it ends the job.
  if (mine && alone) throw comm::Error(mine.code, mine.text);
  progress_.publish(comm::Phase::kInit, 0);
  const comm::Progress::Waiting waiting(progress_);
  for (const std::string& bytes : world_.all_gather(pack(mine))) {
    if (const Failure failure = unpack(bytes)) throw AgreedError(failure.code, failure.text);
  }
}

// False when this group was asked to stop.
bool Search::run_next(const Trial& trial, double share) {
  std::int64_t votes[2] = {signals_.requested(), 0};
  agree(*group_, [&] {
    if (group_->rank() != 0) return;
    votes[0] |= queue_.closed();
    if (votes[0] == 0) votes[1] = queue_.claim(trial.id());
  });
  group_->all_reduce(std::span(votes), comm::Reduction::kMax);
  if (votes[0] != 0) return false;
  if (votes[1] == 0) return true;
  const TrialRow row = runner_->run(trial, share, *group_, progress_, signals_);
  agree(*group_, [&] {
    if (group_->rank() != 0) return;
    table_.append(row);
    if (!more_rungs_) runner_->discard_checkpoints(trial);
    std::string line = "trial " + row.id + ":";
    for (std::size_t k = 0; k < keys_.size(); ++k)
      line += fmt::format(" {}={}", keys_[k], row.values[k]);
    options_.notify(row.code == 0
                        ? fmt::format("{}: {} {:.4f}, on training images {:.4f} ({:.1f} s)", line,
                                      metric_, row.metric, row.train_metric, row.seconds)
                        : fmt::format("{}: failed: {}", line, row.reason));
  });
  return true;
}

void Search::run_rung(const std::vector<Trial>& trials, double share) {
  agree_on([&] {
    if (is_root()) queue_.clear();
  });
  agree_on([&] {
    try {
      for (const Trial& trial : trials) {
        if (!run_next(trial, share)) break;
      }
    } catch (const comm::Error& error) {
      if (error.code() != comm::ExitCode::kStopped) throw;
    }
    stopped_ = signals_.requested();
    if (stopped_) queue_.close();
  });
  std::int64_t stopped = stopped_;
  world_.all_reduce(std::span(&stopped, 1), comm::Reduction::kMax);
  if (stopped != 0)
    throw AgreedError(comm::ExitCode::kStopped,
                      fmt::format("stopped on request; finished trials stand in {}; run the same "
                                  "command to continue",
                                  (options_.out / "trials.csv").string()));
}

void Search::require_success(const TrialRows& rows) const {
  const TrialRow* failed = nullptr;
  for (const auto& [id, row] : rows) {
    if (row.code == 0 && std::isfinite(row.metric)) return;
    if (row.code != 0 && !failed) failed = &row;
  }
  if (!failed)
    throw AgreedError(comm::ExitCode::kData,
                      fmt::format("{} is undefined in every trial; give validation more images, "
                                  "or fewer --folds",
                                  metric_));
  throw AgreedError(
      static_cast<comm::ExitCode>(failed->code),
      fmt::format("all {} trials failed; {}: {}", rows.size(), failed->id, failed->reason));
}

SearchResult Search::run() {
  const SearchDefinition& definition = options_.definition;
  const auto shares = rung_shares(definition.strategy, candidates_.size());
  std::vector<int> alive(candidates_.size());
  for (std::size_t c = 0; c < alive.size(); ++c) alive[c] = static_cast<int>(c);
  TrialRows rows = shared_rows();
  for (std::size_t r = 0; r < shares.size(); ++r) {
    const int rung = static_cast<int>(r);
    std::vector<Trial> trials = trials_of(definition, alive, rung);
    const std::vector<Trial> all = trials;
    std::erase_if(trials, [&](const Trial& trial) {
      const auto row = rows.find(trial.id());
      return row != rows.end() && is_final(row->second);
    });
    if (is_root() && trials.size() < all.size())
      options_.notify(fmt::format("{} of {} trials were finished before",
                                  all.size() - trials.size(), all.size()));
    more_rungs_ = r + 1 < shares.size();
    if (!trials.empty()) run_rung(trials, shares[r]);
    rows = shared_rows();
    require_success(rows_of_rung(rows, rung));
    if (!more_rungs_) continue;
    const Summary so_far = summarize(rows_of_rung(rows, rung), keys_, candidates_);
    alive = survivors(so_far, alive);
    for (const Trial& trial : all) {
      if (is_root() && std::find(alive.begin(), alive.end(), trial.candidate) == alive.end())
        runner_->discard_checkpoints(trial);
    }
  }
  return {definition.overs, metric_, strategy_name(definition.strategy), definition.folds,
          definition.seeds, rows,    summarize(rows, keys_, candidates_)};
}

}  // namespace trainer
