#include "trainer/checkpoint/durable_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>

#include "comm/error.h"
#include "trainer/checkpoint/digest.h"
#include "trainer/checkpoint/text.h"

namespace fs = std::filesystem;

namespace trainer {
namespace {

[[noreturn]] void fail_io(const char* what, const fs::path& path, int error) {
  comm::fail(comm::ExitCode::kIo, "cannot {} {}: {}; check free space, quota and permissions", what,
             quote_text(path.native()), error_text(error));
}

int open_retrying(const fs::path& path, int flags) {
  int descriptor;
  do {
    descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

// What O_DIRECT asks of addresses, sizes and offsets on the file systems of today.
constexpr std::size_t kBlockBytes = 4096;
constexpr std::size_t kDirectBytes = std::size_t{4} << 20;  // less is not worth it

// Past the page cache or through it. False where the file system cannot.
bool set_direct(int descriptor, bool direct) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  return ::fcntl(descriptor, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

bool is_direct(int descriptor) { return (::fcntl(descriptor, F_GETFL) & O_DIRECT) != 0; }

// An open file; `close` reports, the destructor is for the error path only.
class File {
 public:
  File(const fs::path& path, int flags, const char* what)
      : path_(path), descriptor_(open_retrying(path, flags)) {
    if (descriptor_ < 0) fail_io(what, path_, errno);
  }
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // Whole blocks of large files go past the page cache where that is possible: copying 270 MB into
  // new pages took up to 0.8 s of the cores that compute the next step.
  void write(std::span<const std::byte> bytes) {
    // Linux moves at most 0x7ffff000 bytes a call.
    constexpr std::size_t kMaxCall = std::size_t{1} << 30;
    if (bytes.size() >= kDirectBytes &&
        reinterpret_cast<std::uintptr_t>(bytes.data()) % kBlockBytes == 0)
      set_direct(descriptor_, true);
    while (!bytes.empty()) {
      std::size_t size = std::min(bytes.size(), kMaxCall);
      if (is_direct(descriptor_)) {
        if (size < kBlockBytes)
          set_direct(descriptor_, false);
        else
          size = size / kBlockBytes * kBlockBytes;
      }
      const ssize_t n = ::write(descriptor_, bytes.data(), size);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EINVAL && is_direct(descriptor_) && set_direct(descriptor_, false))
        continue;  // after all not here
      if (n < 0) fail_io("write", path_, errno);
      if (n == 0) fail_io("write", path_, ENOSPC);
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
  }
  void sync() {
    if (::fsync(descriptor_) != 0) fail_io("fsync", path_, errno);
  }
  void close() {
    const int descriptor = descriptor_;
    descriptor_ = -1;
    if (::close(descriptor) != 0) fail_io("close", path_, errno);
  }
  int descriptor() const { return descriptor_; }

 private:
  const fs::path& path_;
  int descriptor_;
};

// 0 at the end of the file.
std::size_t read_some(int descriptor, std::span<std::byte> out, const fs::path& path) {
  for (;;) {
    const ssize_t n = ::read(descriptor, out.data(), out.size());
    if (n >= 0) return static_cast<std::size_t>(n);
    if (errno == EINVAL && is_direct(descriptor) && set_direct(descriptor, false)) continue;
    if (errno != EINTR) fail_io("read", path, errno);
  }
}

// Size of an ordinary file behind `descriptor`.
std::uint64_t file_size(int descriptor, const fs::path& path) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) fail_io("stat", path, errno);
  if (!S_ISREG(status.st_mode)) fail_io("read", path, EISDIR);
  return static_cast<std::uint64_t>(status.st_size);
}

// O_NONBLOCK: a FIFO in the place of a file must not stop the run; no effect on files.
int open_input(const fs::path& path) {
  const int descriptor = open_retrying(path, O_RDONLY | O_NONBLOCK);
  if (descriptor < 0 && (errno == ENOENT || errno == ENOTDIR))
    comm::fail(comm::ExitCode::kInputMissing, "{} does not exist", quote_text(path.native()));
  if (descriptor < 0) fail_io("open", path, errno);
  return descriptor;
}

struct Descriptor {
  int value;
  ~Descriptor() { ::close(value); }  // opened for reading: nothing to lose
};

void rename_checked(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail_io("rename to", to, errno);
}

}  // namespace

void write_durably(const fs::path& file, std::span<const std::byte> bytes) {
  const fs::path part = file.parent_path() / (".tmp-" + file.filename().native());
  try {
    File out(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, "create");
    out.write(bytes);
    out.sync();
    out.close();
    rename_checked(part, file);
  } catch (const comm::Error&) {
    discard(part);
    throw;
  }
  sync_folder(file.parent_path());
}

void rename_durably(const fs::path& from, const fs::path& to) {
  rename_checked(from, to);
  sync_folder(to.parent_path());
}

void link_durably(const fs::path& target, const fs::path& link) {
  const fs::path part = link.parent_path() / (".tmp-" + link.filename().native());
  discard(part);
  if (::symlink(target.c_str(), part.c_str()) != 0) fail_io("create the link", part, errno);
  try {
    rename_checked(part, link);
  } catch (const comm::Error&) {
    discard(part);
    throw;
  }
  sync_folder(link.parent_path());
}

void make_folder(const fs::path& folder) {
  if (::mkdir(folder.c_str(), 0777) != 0) fail_io("create the folder", folder, errno);
}

void sync_folder(const fs::path& folder) {
  File handle(folder, O_RDONLY | O_DIRECTORY, "open the folder");
  handle.sync();
  handle.close();
}

void discard(const fs::path& path) noexcept {
  std::error_code ignored;  // looked for again at the next start
  fs::remove_all(path, ignored);
}

std::vector<std::byte> read_whole(const fs::path& file, std::uint64_t limit_bytes) {
  const Descriptor in{open_input(file)};
  const std::uint64_t size = file_size(in.value, file);
  if (size > limit_bytes)
    comm::fail(comm::ExitCode::kIo, "{} has {} bytes, at most {} are read",
               quote_text(file.native()), size, limit_bytes);
  std::vector<std::byte> bytes(size);
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const std::size_t n = read_some(in.value, std::span(bytes).subspan(filled), file);
    if (n == 0) break;  // it became shorter; the caller's digest tells
    filled += n;
  }
  bytes.resize(filled);
  return bytes;
}

FileDigest digest_file(const fs::path& file, bool from_disk) {
  const Descriptor in{open_input(file)};
  const std::uint64_t size = file_size(in.value, file);
  if (from_disk && size >= kDirectBytes) set_direct(in.value, true);
  constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
  std::vector<std::byte> memory(kPieceBytes + kBlockBytes);
  void* aligned = memory.data();
  std::size_t space = memory.size();
  const std::span buffer(
      static_cast<std::byte*>(std::align(kBlockBytes, kPieceBytes, aligned, space)), kPieceBytes);
  Hasher hasher;
  FileDigest result;
  while (result.num_bytes < size) {
    const std::size_t n = read_some(in.value, buffer, file);
    if (n == 0) break;
    hasher.add(buffer.first(n));
    result.num_bytes += n;
  }
  result.digest = hasher.hex();
  return result;
}

}  // namespace trainer
