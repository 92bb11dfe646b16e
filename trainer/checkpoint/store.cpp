#include "trainer/checkpoint/store.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <future>
#include <system_error>

#include "comm/error.h"
#include "trainer/checkpoint/collective.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/checkpoint/names.h"
#include "trainer/checkpoint/save_files.h"
#include "trainer/checkpoint/text.h"

namespace fs = std::filesystem;

namespace trainer {
namespace {

// On a thread of its own; here and now where the system gives no more threads.
template <typename Work>
auto in_background(const Work& work) -> std::future<decltype(work())> {
  try {
    return std::async(std::launch::async, work);
  } catch (const std::system_error&) {
    std::promise<decltype(work())> done;
    done.set_value(work());
    return done.get_future();
  }
}

template <typename T>
bool is_ready(const std::future<T>& future) {
  return !future.valid() || future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

// Separates a rank's files from its problem; neither JSON nor an escaped message contains it.
constexpr char kSeparator = '\0';

struct SaveInFlight {
  CheckpointMeta meta;
  fs::path temporary;
  std::future<WriteResult> writing;      // every rank, until all have agreed on its outcome
  std::future<CommitResult> committing;  // then rank 0
  bool agreed = false;

  bool ready() const { return agreed ? is_ready(committing) : is_ready(writing); }
  void wait() const {
    if (writing.valid()) writing.wait();
    if (committing.valid()) committing.wait();
  }
};

}  // namespace

struct CheckpointStore::State {
  fs::path checkpoints;
  comm::Communicator& comm;
  StoreOptions options;
  std::int64_t sequence = 0;  // rank 0
  int num_failures = 0;
  bool final = false;  // no later save can make up for a failure
  std::optional<std::int64_t> committed;
  std::atomic<bool> cancelled{false};  // the store is being destroyed
  std::vector<ImageBytes> spare;       // memory of the last save, while none is in flight
  std::optional<SaveInFlight> flight;

  void notify(const std::string& text) const {
    if (comm.rank() == 0 && options.notify) options.notify(text);
  }
  void start(const Snapshot& snapshot);
  std::optional<std::int64_t> advance();
  std::optional<std::int64_t> finish();
  void agree_on_files();
  std::optional<std::int64_t> agree_on_commit();
  void drop(const std::string& problem);
};

// REQUIRES: no save in flight.
void CheckpointStore::State::start(const Snapshot& snapshot) {
  std::function<std::vector<PendingFile>()> build = [this, snapshot] {
    return build_images(snapshot, comm.rank(), comm.size(), std::move(spare));
  };
  if (!snapshot.kept) {  // now: the next step overwrites it
    auto files = std::make_shared<std::vector<PendingFile>>();
    run_agreed(comm, [&] { *files = build(); });
    build = [files] { return std::move(*files); };
  }
  const std::string name = from_rank0(comm, temporary_name(snapshot.meta.step));
  flight.emplace();
  flight->meta = snapshot.meta;
  flight->meta.world_size = comm.size();
  flight->temporary = checkpoints / name;
  try {
    run_agreed(comm, [&] {
      if (comm.rank() == 0) make_folder(flight->temporary);
    });
  } catch (const comm::Error& error) {
    if (error.code() != comm::ExitCode::kIo) {
      flight.reset();
      throw;
    }
    drop(error.what());
    return;
  }
  flight->writing = in_background(
      [this, folder = flight->temporary, build] { return write_files(folder, build, cancelled); });
}

// Every rank's files on every rank; rank 0 goes on to commit.
void CheckpointStore::State::agree_on_files() {
  WriteResult mine = flight->writing.get();
  spare = std::move(mine.spare);
  flight->agreed = true;
  const std::vector<std::string> reports =
      comm.all_gather(mine.problem + kSeparator + encode_files(mine.files));
  std::vector<FileEntry> files;
  for (std::size_t rank = 0; rank < reports.size(); ++rank) {
    const std::size_t cut = reports[rank].find(kSeparator);
    if (cut != 0) {
      drop(fmt::format("rank {} ({}): {}", rank, comm.host(static_cast<int>(rank)),
                       reports[rank].substr(0, cut)));
      return;
    }
    std::vector<FileEntry> theirs = decode_files(std::string_view(reports[rank]).substr(cut + 1));
    std::move(theirs.begin(), theirs.end(), std::back_inserter(files));
  }
  if (comm.rank() != 0) return;
  const CommitRequest request{checkpoints,
                              flight->temporary,
                              {++sequence, flight->meta, std::move(files), {}},
                              options.keep};
  flight->committing = in_background([request] { return commit(request); });
}

std::optional<std::int64_t> CheckpointStore::State::agree_on_commit() {
  CommitResult result;
  if (flight->committing.valid()) result = flight->committing.get();
  const std::string problem = from_rank0(comm, result.problem);
  if (!problem.empty()) {
    drop(problem);
    return std::nullopt;
  }
  for (const std::string& warning : result.warnings) notify(warning);
  committed = flight->meta.step;
  num_failures = 0;
  flight.reset();
  return committed;
}

// The save in flight has failed on all ranks; none writes to its folder any more.
void CheckpointStore::State::drop(const std::string& problem) {
  if (comm.rank() == 0) discard(flight->temporary);
  const std::int64_t step = flight->meta.step;
  flight.reset();
  ++num_failures;
  if (final || num_failures >= options.max_failures)
    throw comm::AgreedError(comm::ExitCode::kIo,
                            fmt::format("the checkpoint of step {} was not saved ({} in a row): {}",
                                        step, num_failures, problem));
  const std::string last = committed ? fmt::format("step {} is saved", *committed)
                                     : "nothing has been saved since the start";
  notify(
      fmt::format("the checkpoint of step {} was not saved: {}; {}; training goes on, failure "
                  "{} of {} in a row",
                  step, problem, last, num_failures, options.max_failures));
}

std::optional<std::int64_t> CheckpointStore::State::advance() {
  if (flight->agreed) return agree_on_commit();
  agree_on_files();
  return std::nullopt;
}

std::optional<std::int64_t> CheckpointStore::State::finish() {
  std::optional<std::int64_t> step;
  while (flight) {
    flight->wait();
    step = advance();
  }
  return step;
}

CheckpointStore::CheckpointStore(fs::path run_folder, comm::Communicator& comm,
                                 StoreOptions options)
    : state_(new State{run_folder / kCheckpointsName, comm, std::move(options)}) {
  run_agreed(comm, [&] {
    if (comm.rank() == 0) state_->sequence = recover(state_->checkpoints);
  });
}

CheckpointStore::~CheckpointStore() {
  if (!state_->flight) return;
  state_->cancelled = true;
  state_->flight->wait();
  if (state_->comm.rank() == 0) discard(state_->flight->temporary);
}

void CheckpointStore::save_async(const Snapshot& snapshot) {
  state_->finish();
  state_->start(snapshot);
}

std::optional<std::int64_t> CheckpointStore::poll() {
  if (!state_->flight) return std::nullopt;
  std::int64_t ready = state_->flight->ready();
  state_->comm.all_reduce(std::span(&ready, 1), comm::Reduction::kMin);
  return ready ? state_->advance() : std::nullopt;
}

std::optional<std::int64_t> CheckpointStore::finish() { return state_->finish(); }

void CheckpointStore::save_final(const Snapshot& snapshot) {
  state_->finish();
  state_->final = true;
  state_->start(snapshot);
  state_->finish();
}

bool CheckpointStore::in_flight() const { return state_->flight.has_value(); }

std::optional<std::int64_t> CheckpointStore::committed_step() const { return state_->committed; }

}  // namespace trainer
