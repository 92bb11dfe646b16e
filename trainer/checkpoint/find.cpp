#include <fmt/format.h>

#include <chrono>
#include <system_error>
#include <thread>

#include "comm/error.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/collective.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/names.h"
#include "trainer/checkpoint/text.h"

namespace fs = std::filesystem;

namespace trainer {
namespace {

using comm::ExitCode;

// A network file system may show a new folder on other hosts only after its attribute cache
// expires.
constexpr auto kVisibilityLimit = std::chrono::seconds(30);

// The manifest as rank 0 sees it, on any rank. Errors: kIo when it does not become visible.
Manifest load_as_rank0(const fs::path& folder, const std::string& digest) {
  const auto deadline = std::chrono::steady_clock::now() + kVisibilityLimit;
  for (auto pause = std::chrono::milliseconds(10);; pause *= 2) {
    std::string problem;
    try {
      Manifest manifest = load_manifest(folder);
      if (manifest.digest == digest) return manifest;
      problem = "it differs from what rank 0 sees";
    } catch (const comm::Error& error) {
      problem = error.what();
    }
    if (std::chrono::steady_clock::now() + pause > deadline)
      comm::fail(ExitCode::kIo, "checkpoint {} is not visible here as on rank 0: {}",
                 quote_text(folder.native()), problem);
    std::this_thread::sleep_for(pause);
  }
}

// Collective. Verifies all files of a checkpoint, each by one rank. Errors: kCheckpointRefused,
// kIo.
Checkpoint open_verified(const fs::path& folder, const std::string& rank0_digest,
                         comm::Communicator& comm) {
  const std::string digest = from_rank0(comm, rank0_digest);
  std::optional<Manifest> manifest;
  run_agreed(comm, [&] { manifest = load_as_rank0(folder, digest); });
  run_agreed(comm, [&] {
    const auto size = static_cast<std::size_t>(comm.size());
    for (std::size_t i = static_cast<std::size_t>(comm.rank()); i < manifest->files.size();
         i += size)
      verify_file(folder, manifest->files[i], /*from_disk=*/false);
  });
  std::optional<Checkpoint> checkpoint;
  run_agreed(comm, [&] { checkpoint.emplace(folder, std::move(*manifest)); });
  return std::move(*checkpoint);
}

void report(comm::Communicator& comm, const Notify& notify, const std::string& text) {
  if (comm.rank() == 0 && notify) notify(text);
}

// Rank 0's next candidate, newest first, as "NAME DIGEST"; empty after the last.
std::string take_newest(std::vector<Candidate>& candidates) {
  if (candidates.empty()) return {};
  const Candidate candidate = std::move(candidates.back());
  candidates.pop_back();
  return fmt::format("{} {}", candidate.folder.filename().native(), candidate.manifest->digest);
}

}  // namespace

std::vector<fs::path> list_checkpoints(const fs::path& run_folder) {
  std::vector<fs::path> folders;
  for (Candidate& candidate : scan_checkpoints(run_folder / kCheckpointsName))
    folders.push_back(std::move(candidate.folder));
  return folders;
}

std::optional<Checkpoint> newest_valid(const fs::path& run_folder, comm::Communicator& comm,
                                       const Notify& notify) {
  const fs::path checkpoints = run_folder / kCheckpointsName;
  std::vector<Candidate> candidates;  // of rank 0
  run_agreed(comm, [&] {
    if (comm.rank() == 0) candidates = scan_checkpoints(checkpoints);
  });
  const bool any = from_rank0(comm, candidates.empty() ? "" : "some") == "some";
  bool passed_over = false;
  const auto pass_over = [&](const std::string& problem) {
    report(comm, notify, fmt::format("passed over: {}", problem));
    passed_over = true;
  };
  // When those without a manifest were written is unknown: all are reported.
  for (const Candidate& candidate : candidates)
    if (!candidate.manifest) pass_over(candidate.problem);
  std::erase_if(candidates, [](const Candidate& candidate) { return !candidate.manifest; });
  for (;;) {
    const std::string next = from_rank0(comm, take_newest(candidates));
    if (next.empty()) break;
    const std::size_t space = next.rfind(' ');
    const fs::path folder = checkpoints / next.substr(0, space);
    try {
      Checkpoint checkpoint = open_verified(folder, next.substr(space + 1), comm);
      if (passed_over)
        report(
            comm, notify,
            fmt::format("falling back to {}, the newest valid one", quote_text(folder.native())));
      return checkpoint;
    } catch (const comm::Error& error) {
      if (error.code() != ExitCode::kCheckpointRefused) throw;
      pass_over(error.what());
    }
  }
  if (any)
    comm::fail(ExitCode::kCheckpointRefused,
               "no checkpoint in {} is valid; restore one from a copy or start a new run with "
               "another --out",
               quote_text(checkpoints.native()));
  return std::nullopt;
}

Checkpoint open_checkpoint(const fs::path& path, comm::Communicator& comm, const Notify& notify) {
  std::string kind;  // of rank 0
  std::string digest;
  run_agreed(comm, [&] {
    if (comm.rank() != 0) return;
    std::error_code error;
    if (!fs::exists(path, error))
      comm::fail(ExitCode::kInputMissing, "checkpoint {} does not exist",
                 quote_text(path.native()));
    kind = fs::is_directory(path / kCheckpointsName, error) ? "run" : "checkpoint";
    if (kind == "checkpoint") digest = load_manifest(path).digest;
  });
  if (from_rank0(comm, kind) == "checkpoint") return open_verified(path, digest, comm);
  if (auto checkpoint = newest_valid(path, comm, notify)) return std::move(*checkpoint);
  comm::fail(ExitCode::kInputMissing, "run folder {} holds no checkpoint yet",
             quote_text(path.native()));
}

}  // namespace trainer
