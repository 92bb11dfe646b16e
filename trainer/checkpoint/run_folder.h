#pragma once

#include <filesystem>

#include "comm/communicator.h"
#include "trainer/checkpoint/snapshot.h"

namespace trainer {

// The output folder of a run, held by this run alone until destruction. RUN/LOCK is locked with
// flock by rank 0 and names the owner; the kernel drops the lock of a killed run, so nothing has to
// be cleaned up by hand.
class RunFolder {
 public:
  // Collective. Creates the folder, checks that every rank sees it, locks it. Errors, on every
  // rank: kOutputBusy when it cannot be created, is not shared by all ranks or is held by another
  // run (the message names host, process and start).
  RunFolder(std::filesystem::path path, comm::Communicator& comm, const Notify& notify);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  // Whether the folder held a run before this one; equal on all ranks.
  bool holds_run() const { return holds_run_; }
  // For `--resume never`. Errors: kOutputBusy when holds_run().
  void require_fresh() const;

 private:
  void release() noexcept;

  std::filesystem::path path_;
  bool holds_run_ = false;
  int lock_ = -1;  // rank 0 only
};

}  // namespace trainer
