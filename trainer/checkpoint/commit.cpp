#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <system_error>

#include "comm/error.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/checkpoint/names.h"
#include "trainer/checkpoint/save_files.h"
#include "trainer/checkpoint/text.h"

namespace fs = std::filesystem;

namespace trainer {
namespace {

// Another host's file system may be another one: what the ranks say they wrote must be here.
void require_present(const fs::path& folder, const FileEntry& file) {
  std::error_code error;
  const auto size = fs::file_size(folder / file.name, error);
  if (error || size != file.num_bytes)
    comm::fail(comm::ExitCode::kIo, "{} is not here as its rank wrote it: {}",
               quote_text((folder / file.name).native()),
               error ? error.message() : fmt::format("{} bytes of {}", size, file.num_bytes));
}

const Candidate* newest_best(const std::vector<Candidate>& all) {
  for (auto candidate = all.rbegin(); candidate != all.rend(); ++candidate)
    if (candidate->manifest && candidate->manifest->meta.best) return &*candidate;
  return nullptr;
}

// The manifests know which is best; the link is for people and scripts.
void point_to_best(const fs::path& checkpoints, const std::vector<Candidate>& all) {
  const Candidate* best = newest_best(all);
  if (best == nullptr) return;
  const fs::path link = checkpoints / kBestName;
  std::error_code error;
  if (fs::read_symlink(link, error) == best->folder.filename() && !error) return;
  link_durably(best->folder.filename(), link);
}

// A checkpoint disappears by a rename, so none is ever seen half removed.
void remove_checkpoint(const fs::path& folder) {
  const fs::path trash = folder.parent_path() / trash_name();
  rename_durably(folder, trash);
  discard(trash);
}

// Removes all but the `keep` newest and the best. REQUIRES: the newest has just been verified, so a
// valid one always stays. Those without a readable manifest are left for people to look at.
void prune(const std::vector<Candidate>& all, int keep) {
  const Candidate* best = newest_best(all);
  int num_newer = 0;
  for (auto candidate = all.rbegin(); candidate != all.rend(); ++candidate) {
    if (!candidate->manifest || num_newer++ < std::max(keep, 1) || &*candidate == best) continue;
    remove_checkpoint(candidate->folder);
  }
}

}  // namespace

CommitResult commit(const CommitRequest& request) {
  CommitResult result;
  try {
    for (const FileEntry& file : request.manifest.files) require_present(request.temporary, file);
    const std::string text = encode_manifest(request.manifest);
    write_durably(request.temporary / kManifestName, std::as_bytes(std::span(text)));
    const std::string name = free_checkpoint_name(request.checkpoints, request.manifest.meta.step);
    rename_durably(request.temporary, request.checkpoints / name);
  } catch (const std::exception& error) {
    result.problem = error.what();
    return result;
  }
  try {
    const std::vector<Candidate> all = scan_checkpoints(request.checkpoints);
    point_to_best(request.checkpoints, all);
    prune(all, request.keep);
  } catch (const std::exception& error) {
    result.warnings.push_back(error.what());
  }
  return result;
}

std::int64_t recover(const fs::path& checkpoints) {
  std::error_code error;
  fs::create_directories(checkpoints, error);
  if (error)
    comm::fail(comm::ExitCode::kIo, "cannot create {}: {}", quote_text(checkpoints.native()),
               error.message());
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints, error))
    if (entry.path().filename().native().starts_with('.')) discard(entry.path());
  if (error)
    comm::fail(comm::ExitCode::kIo, "cannot list {}: {}", quote_text(checkpoints.native()),
               error.message());
  const std::vector<Candidate> all = scan_checkpoints(checkpoints);
  point_to_best(checkpoints, all);
  return all.empty() || !all.back().manifest ? 0 : all.back().manifest->sequence;
}

}  // namespace trainer
