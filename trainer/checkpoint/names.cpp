#include "trainer/checkpoint/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "comm/error.h"
#include "trainer/checkpoint/text.h"

namespace fs = std::filesystem;

namespace trainer {
namespace {

constexpr const char* kPrefix = "step-";

bool exists_in_any_form(const fs::path& path) {
  std::error_code error;
  return fs::symlink_status(path, error).type() != fs::file_type::not_found;
}

std::int64_t order_of(const Candidate& candidate) {
  return candidate.manifest ? candidate.manifest->sequence : -1;
}

}  // namespace

std::string temporary_name(std::int64_t step) {
  return fmt::format(".tmp-{}-{}", step, random_id());
}

std::string trash_name() { return fmt::format(".trash-{}", random_id()); }

std::string free_checkpoint_name(const fs::path& checkpoints, std::int64_t step) {
  std::string name = fmt::format("{}{:08}", kPrefix, step);
  for (int attempt = 2; exists_in_any_form(checkpoints / name); ++attempt)
    name = fmt::format("{}{:08}-{}", kPrefix, step, attempt);
  return name;
}

std::vector<Candidate> scan_checkpoints(const fs::path& checkpoints) {
  std::vector<Candidate> found;
  std::error_code error;
  fs::directory_iterator entry(checkpoints, error);
  if (error == std::errc::no_such_file_or_directory) return found;
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (!entry->path().filename().native().starts_with(kPrefix)) continue;
    Candidate candidate{entry->path(), {}, {}};
    try {
      candidate.manifest = load_manifest(candidate.folder);
    } catch (const comm::Error& refusal) {
      candidate.problem = refusal.what();
    }
    found.push_back(std::move(candidate));
  }
  if (error)
    comm::fail(comm::ExitCode::kIo, "cannot list {}: {}", quote_text(checkpoints.native()),
               error.message());
  std::sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) {
    return std::pair(order_of(a), a.folder.native()) < std::pair(order_of(b), b.folder.native());
  });
  return found;
}

}  // namespace trainer
