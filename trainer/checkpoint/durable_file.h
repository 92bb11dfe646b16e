#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace trainer {

// The only routines that change files of a checkpoint. Every system call is checked; a call that a
// signal interrupted is repeated; nothing is retried after a failed fsync or close, because the
// kernel may have dropped the data (https://lwn.net/Articles/752063/). Errors: kIo with path and
// cause.

// The file holds exactly `bytes`, or what it held before, whatever happens: temporary name, write,
// fsync, close, rename, fsync of the folder. The temporary file is removed on error.
void write_durably(const std::filesystem::path& file, std::span<const std::byte> bytes);

// Rename within one folder, then fsync of it. REQUIRES: `to` does not exist.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

// `link` is a symbolic link to `target`, or what it was before.
void link_durably(const std::filesystem::path& target, const std::filesystem::path& link);

void make_folder(const std::filesystem::path& folder);  // one level; an existing one is an error
void sync_folder(const std::filesystem::path& folder);

// Removes what it can; for leftovers that are looked for again at the next start.
void discard(const std::filesystem::path& path) noexcept;

// The whole file. Errors: kInputMissing when it does not exist, else kIo, also when it is longer
// than `limit_bytes` or not an ordinary file.
std::vector<std::byte> read_whole(const std::filesystem::path& file, std::uint64_t limit_bytes);

struct FileDigest {
  std::uint64_t num_bytes = 0;
  std::string digest;
};

// Read in pieces; `from_disk`: past the page cache where the file system can, so that what is read
// is what was written, not what is remembered. Errors: as read_whole.
FileDigest digest_file(const std::filesystem::path& file, bool from_disk);

}  // namespace trainer
