#include "trainer/report/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "comm/error.h"

namespace trainer {

namespace fs = std::filesystem;

namespace {

constexpr mode_t kMode = 0644;

// False with errno set, and `num_written` short, on failure. Signals are not failures.
bool write_whole(int descriptor, std::string_view bytes, std::size_t& num_written) {
  num_written = 0;
  while (num_written < bytes.size()) {
    const ssize_t n = ::write(descriptor, bytes.data() + num_written, bytes.size() - num_written);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    num_written += static_cast<std::size_t>(n);
  }
  return true;
}

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }
  int close() { return ::close(std::exchange(value_, -1)); }

 private:
  int value_;
};

[[noreturn]] void fail_io(const char* action, const fs::path& path) {
  const int code = errno;
  comm::fail(comm::ExitCode::kIo, "cannot {} \"{}\": {}; check the disk's space and permissions",
             action, path.string(), std::strerror(code));
}

void sync_folder(const fs::path& folder) {
  Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems refuse fsync of a folder; they have nothing to flush.
  if (descriptor.get() < 0 || (::fsync(descriptor.get()) != 0 && errno != EINVAL))
    fail_io("sync the folder", folder);
}

}  // namespace

AppendFile::AppendFile(fs::path path) : path_(std::move(path)) {}

AppendFile::~AppendFile() { close(); }

void AppendFile::close() noexcept {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

std::string AppendFile::error() const { return errno_ == 0 ? "" : std::strerror(errno_); }

bool AppendFile::open() noexcept {
  if (descriptor_ < 0)
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, kMode);
  return descriptor_ >= 0;
}

bool AppendFile::give_up() noexcept {
  errno_ = errno;
  ++num_lost_;
  return false;
}

bool AppendFile::append(std::string_view record) noexcept {
  if (!open()) return give_up();
  std::size_t num_written = 0;
  if (write_whole(descriptor_, record, num_written)) return true;
  give_up();
  if (num_written == 0) return false;
  const off_t end = ::lseek(descriptor_, 0, SEEK_END);
  const auto torn = static_cast<off_t>(num_written);
  // A device or pipe cannot be cut back, and has no records to protect.
  if (end >= torn) static_cast<void>(!::ftruncate(descriptor_, end - torn));
  return false;
}

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    comm::fail(comm::ExitCode::kIo, "cannot make the folder \"{}\": {}; check its permissions",
               folder.string(), error.message());
}

void write_file(const fs::path& path, std::string_view bytes) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  make_folders(folder);
  fs::path temporary = path;
  temporary += ".tmp";
  try {
    Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, kMode));
    if (file.get() < 0) fail_io("create", temporary);
    std::size_t num_written = 0;
    if (!write_whole(file.get(), bytes, num_written)) fail_io("write", temporary);
    if (::fsync(file.get()) != 0) fail_io("sync", temporary);
    if (file.close() != 0) fail_io("close", temporary);
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail_io("rename to", path);
  } catch (const comm::Error&) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_folder(folder);
}

}  // namespace trainer
