#include <fmt/format.h>

#include "comm/error.h"
#include "trainer/checkpoint/digest.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/text.h"

namespace fs = std::filesystem;

namespace trainer {
namespace {

[[noreturn]] void refuse(const fs::path& file, const std::string& why) {
  comm::fail(comm::ExitCode::kCheckpointRefused, "checkpoint file {}: {}",
             quote_text(file.native()), why);
}

void compare(const fs::path& file, const FileEntry& entry, std::uint64_t num_bytes,
             const std::string& digest) {
  if (num_bytes != entry.num_bytes)
    refuse(file, fmt::format("{} bytes, the manifest says {}", num_bytes, entry.num_bytes));
  if (digest != entry.digest)
    refuse(file, fmt::format("digest {}, the manifest says {}", digest, entry.digest));
}

}  // namespace

void verify_file(const fs::path& folder, const FileEntry& entry, bool from_disk) {
  const fs::path file = folder / entry.name;
  FileDigest found;
  try {
    found = digest_file(file, from_disk);
  } catch (const comm::Error& error) {
    refuse(file, error.what());
  }
  compare(file, entry, found.num_bytes, found.digest);
}

std::vector<std::byte> read_verified(const fs::path& folder, const FileEntry& entry) {
  const fs::path file = folder / entry.name;
  std::vector<std::byte> bytes;
  try {
    bytes = read_whole(file, entry.num_bytes);
  } catch (const comm::Error& error) {
    refuse(file, error.what());
  }
  compare(file, entry, bytes.size(), digest_of(bytes));
  return bytes;
}

}  // namespace trainer
