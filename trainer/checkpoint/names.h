#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "trainer/checkpoint/manifest.h"

namespace trainer {

// Names inside RUN/checkpoints. A name that begins with a dot is never a checkpoint; such leftovers
// of killed saves are removed at the next start.
inline constexpr const char* kCheckpointsName = "checkpoints";
inline constexpr const char* kBestName = "best";

std::string temporary_name(std::int64_t step);  // ".tmp-500-0123456789abcdef"
std::string trash_name();                       // ".trash-0123456789abcdef"

// "step-00000500", or with a suffix "-2", "-3", ... where an earlier attempt at this step exists.
std::string free_checkpoint_name(const std::filesystem::path& checkpoints, std::int64_t step);

// A folder named like a checkpoint, with its manifest or why it has none.
struct Candidate {
  std::filesystem::path folder;
  std::optional<Manifest> manifest;
  std::string problem;
};

// In commit order, those without a manifest first; file contents are not verified. A folder that
// does not exist holds none. Errors: kIo.
std::vector<Candidate> scan_checkpoints(const std::filesystem::path& checkpoints);

}  // namespace trainer
