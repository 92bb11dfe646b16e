#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "comm/communicator.h"
#include "trainer/checkpoint/snapshot.h"

namespace trainer {

struct StoreOptions {
  int keep = 3;          // newest checkpoints kept, beside the best one
  int max_failures = 3;  // consecutive failed saves that training survives, less one
  Notify notify = {};    // called on rank 0 only; empty: silent
};

// Writes the checkpoints of one run (FORMAT.md: layout and commit protocol). Every member function
// is collective: all ranks call it at the same step boundary. Communication happens on the calling
// thread only; files are written by a background thread of each rank.
class CheckpointStore {
 public:
  // Creates RUN/checkpoints, removes what killed saves left. REQUIRES: the run folder is locked by
  // this run (run_folder.h); `comm` outlives the store. Errors: kIo on every rank.
  CheckpointStore(std::filesystem::path run_folder, comm::Communicator& comm,
                  StoreOptions options = {});
  // Waits for the background thread; a save that is not committed by then is discarded.
  ~CheckpointStore();
  CheckpointStore(const CheckpointStore&) = delete;
  CheckpointStore& operator=(const CheckpointStore&) = delete;

  // Copies the snapshot and starts writing; the caller's memory is free on return. A save still in
  // flight is finished first. A failed save is reported and training goes on.
  // Errors: kIo on every rank when it was the max_failures-th in a row.
  void save_async(const Snapshot& snapshot);

  // Once a step: moves a save in flight forward without waiting. Returns the step when its
  // checkpoint has just been committed. Costs nothing without a save in flight, else one reduction
  // of a single integer. Errors: as save_async.
  std::optional<std::int64_t> poll();

  // Waits until the save in flight, if any, is committed or has failed. Errors: as save_async.
  std::optional<std::int64_t> finish();

  // Saves and waits: the last save of a run. Errors: kIo on every rank unless committed.
  void save_final(const Snapshot& snapshot);

  bool in_flight() const;
  // Of the newest commit of this process; equal on all ranks.
  std::optional<std::int64_t> committed_step() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace trainer
