#include "trainer/search/trial_table.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "comm/error.h"
#include "trainer/checkpoint/durable_file.h"

namespace trainer {
namespace {

// An open file under flock: of an open file description, so that threads exclude each other too,
// and over NFS a byte-range lock that renews the client's view of the file.
class LockedFile {
 public:
  explicit LockedFile(const std::filesystem::path& path)
      : path_(path),
        descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
    if (descriptor_ < 0) fail("open");
    while (::flock(descriptor_, LOCK_EX) != 0) {
      if (errno == EINTR) continue;
      const int code = errno;
      ::close(descriptor_);
      errno = code;
      fail("lock");
    }
  }
  ~LockedFile() { ::close(descriptor_); }
  LockedFile(const LockedFile&) = delete;
  LockedFile& operator=(const LockedFile&) = delete;

  std::string read() const {
    std::string text;
    char buffer[1 << 16];
    while (true) {
      const ssize_t n =
          ::pread(descriptor_, buffer, sizeof(buffer), static_cast<off_t>(text.size()));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail("read");
      if (n == 0) return text;
      text.append(buffer, static_cast<std::size_t>(n));
    }
  }
  void cut(std::size_t size) const {
    if (::ftruncate(descriptor_, static_cast<off_t>(size)) != 0) fail("truncate");
  }
  // Whole and on the disk, or the file is as before.
  void append(const std::string& text) const {
    const off_t end = ::lseek(descriptor_, 0, SEEK_END);
    for (std::size_t written = 0; written < text.size();) {
      const ssize_t n = ::write(descriptor_, text.data() + written, text.size() - written);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        const int code = errno;
        static_cast<void>(!::ftruncate(descriptor_, end));
        errno = code;
        fail("write");
      }
      written += static_cast<std::size_t>(n);
    }
    sync();
  }
  void sync() const {
    if (::fsync(descriptor_) != 0) fail("sync");
  }

 private:
  [[noreturn]] void fail(const char* action) const {
    comm::fail(comm::ExitCode::kIo, "cannot {} \"{}\": {}; finished trials stand, start again",
               action, path_.string(), std::strerror(errno));
  }

  std::filesystem::path path_;
  int descriptor_;
};

}  // namespace

TrialTable::TrialTable(std::filesystem::path file, std::vector<std::string> keys)
    : file_(std::move(file)), keys_(std::move(keys)) {}

void TrialTable::repair() const {
  const LockedFile file(file_);
  const std::string text = file.read();
  const std::size_t newline = text.rfind('\n');
  const std::size_t whole = newline == std::string::npos ? 0 : newline + 1;
  if (whole < text.size()) file.cut(whole);
  if (whole == 0) {
    file.append(csv_header(keys_));
  } else {
    file.sync();
  }
  sync_folder(file_.parent_path());
}

void TrialTable::append(const TrialRow& row) const { LockedFile(file_).append(csv_line(row)); }

std::string TrialTable::text() const {
  std::error_code none;
  return std::filesystem::exists(file_, none) ? LockedFile(file_).read() : "";
}

}  // namespace trainer
