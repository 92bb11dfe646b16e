#include "trainer/checkpoint/run_folder.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

#include "comm/error.h"
#include "trainer/checkpoint/collective.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/checkpoint/names.h"
#include "trainer/checkpoint/text.h"

namespace fs = std::filesystem;

namespace trainer {
namespace {

using comm::ExitCode;

constexpr const char* kLockName = "LOCK";
constexpr const char* kMetricsName = "metrics.jsonl";
// Longer than the attribute caches of network file systems keep a missing name.
constexpr auto kVisibilityLimit = std::chrono::seconds(10);

std::string read_line_of(int descriptor) {
  std::array<char, 512> buffer{};
  const ssize_t n = ::pread(descriptor, buffer.data(), buffer.size(), 0);
  std::string text(buffer.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
  return text.substr(0, text.find('\n'));
}

std::string describe_this_run(const std::string& host) {
  const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return fmt::format("process {} on {} since {:%Y-%m-%dT%H:%M:%SZ}\n", ::getpid(), host,
                     fmt::gmtime(now));
}

// Locked, holding the owner's line. Returns the descriptor that keeps the lock.
int take_lock(const fs::path& path, const std::string& owner, const Notify& notify) {
  const fs::path file = path / kLockName;
  const int lock = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock < 0)
    comm::fail(ExitCode::kOutputBusy, "cannot create {}: {}", quote_text(file.native()),
               error_text(errno));
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    const std::string holder = read_line_of(lock);
    if (error == EWOULDBLOCK) {
      ::close(lock);
      comm::fail(ExitCode::kOutputBusy, "{} is in use by {}; wait for it or choose another --out",
                 quote_text(path.native()), holder.empty() ? "another run" : quote_text(holder));
    }
    if (notify)
      notify(fmt::format("{} cannot be locked ({}): nothing stops a second run in this folder",
                         quote_text(file.native()), error_text(error)));
  }
  const std::string before = read_line_of(lock);
  if (!before.empty() && notify)
    notify(fmt::format("the last run in {} ended without cleaning up: {}",
                       quote_text(path.native()), quote_text(before)));
  // Information for people; the lock does not depend on it.
  if (::ftruncate(lock, 0) != 0 ||
      ::pwrite(lock, owner.data(), owner.size(), 0) != static_cast<ssize_t>(owner.size())) {
    if (notify) notify(fmt::format("cannot write {}", quote_text(file.native())));
  }
  return lock;
}

void create_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error || !fs::is_directory(path, error))
    comm::fail(ExitCode::kOutputBusy, "cannot create the output folder {}: {}",
               quote_text(path.native()), error ? error.message() : "it is not a folder");
}

bool sees(const fs::path& file) {
  const auto deadline = std::chrono::steady_clock::now() + kVisibilityLimit;
  std::error_code error;
  while (!fs::exists(file, error)) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return true;
}

// Rank 0 leaves a token that every rank must find.
void require_shared(const fs::path& path, comm::Communicator& comm) {
  if (comm.size() == 1) return;
  std::string name = ".shared-" + random_id();
  name = from_rank0(comm, name);
  run_agreed(comm, [&] {
    if (comm.rank() == 0) write_durably(path / name, {});
  });
  std::optional<comm::Error> mine;
  if (!sees(path / name))
    mine.emplace(ExitCode::kOutputBusy,
                 fmt::format("does not see the output folder {} of rank 0; all ranks need the same "
                             "folder, on a shared file system",
                             quote_text(path.native())));
  try {
    agree(comm, mine);
  } catch (const comm::Error&) {
    if (comm.rank() == 0) discard(path / name);
    throw;
  }
  if (comm.rank() == 0) discard(path / name);
}

bool looks_like_a_run(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path / kMetricsName, error);
  return (!error && size > 0) || !scan_checkpoints(path / kCheckpointsName).empty();
}

}  // namespace

RunFolder::RunFolder(fs::path path, comm::Communicator& comm, const Notify& notify)
    : path_(std::move(path)) {
  try {
    run_agreed(comm, [&] {
      if (comm.rank() != 0) return;
      create_folder(path_);
      lock_ = take_lock(path_, describe_this_run(comm.host(0)), notify);
      holds_run_ = looks_like_a_run(path_);
    });
    require_shared(path_, comm);
  } catch (const comm::Error&) {
    release();
    throw;
  }
  holds_run_ = from_rank0(comm, holds_run_ ? "yes" : "no") == "yes";
}

RunFolder::~RunFolder() { release(); }

void RunFolder::release() noexcept {
  if (lock_ < 0) return;
  // Cleared first: the next run would report an unclean end. Failure costs no more than that.
  [[maybe_unused]] const int ignored = ::ftruncate(lock_, 0);
  ::close(lock_);
  lock_ = -1;
}

void RunFolder::require_fresh() const {
  if (holds_run_)
    comm::fail(ExitCode::kOutputBusy,
               "{} holds a run already and --resume is never; choose another --out or remove it",
               quote_text(path_.native()));
}

}  // namespace trainer
