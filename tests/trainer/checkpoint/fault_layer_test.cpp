#include "tests/trainer/checkpoint/fault_layer.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "tests/trainer/checkpoint/test_run.h"

namespace trainer::fault {
namespace {

std::atomic<bool> armed{false};
std::mutex mutex;  // guards what follows
Plan plan;
long num_calls = 0;
std::vector<Operation> recorded;

std::string path_of(int descriptor) {
  char buffer[PATH_MAX];
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const ssize_t n = ::readlink(link.c_str(), buffer, sizeof buffer);
  return n > 0 ? std::string(buffer, static_cast<std::size_t>(n)) : std::string();
}

std::string absolute(int folder, const char* path) {
  if (path[0] == '/' || folder == AT_FDCWD) return path;
  return path_of(folder) + "/" + path;
}

enum class Decision { kPass, kFail, kShort };

// Counts a call and decides what happens to it; may not return.
Decision decide(const std::string& path, bool is_write) {
  const std::lock_guard lock(mutex);
  if (!armed || !path.starts_with(plan.folder)) return Decision::kPass;
  const long number = num_calls++;
  const bool hit = number == plan.at || (plan.from_then_on && plan.at >= 0 && number > plan.at);
  if (!hit || plan.action == Action::kCount) return Decision::kPass;
  if (plan.action == Action::kError) return Decision::kFail;
  if (plan.action == Action::kKill) ::kill(::getpid(), SIGKILL);
  return is_write ? Decision::kShort : Decision::kPass;
}

void record(Operation operation) {
  const std::lock_guard lock(mutex);
  if (armed && plan.record && operation.path.starts_with(plan.folder))
    recorded.push_back(std::move(operation));
}

bool kills_after_half() { return plan.action == Action::kTornKill; }

// Any call that takes no data: counted, made, recorded.
template <typename Call>
int intercept(Operation operation, Call call) {
  if (!armed) return call();
  if (decide(operation.path, false) == Decision::kFail) {
    errno = plan.error;
    return -1;
  }
  const int result = call();
  if (result >= 0) record(std::move(operation));
  return result;
}

// Through the next definition of the name, so that a sanitizer sees descriptors come and go.
int real_open_at(int folder, const char* path, int flags, mode_t mode) {
  using Function = int (*)(int, const char*, int, ...);
  static const auto function = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "openat"));
  return function(folder, path, flags, mode);
}

int real_close(int descriptor) {
  static const auto function = reinterpret_cast<int (*)(int)>(::dlsym(RTLD_NEXT, "close"));
  return function(descriptor);
}

int open_at(int folder, const char* path, int flags, mode_t mode) {
  const auto call = [&] { return real_open_at(folder, path, flags, mode); };
  const bool changes = (flags & (O_CREAT | O_TRUNC)) != 0;
  if (!armed || !(changes || (flags & O_DIRECTORY))) return call();
  return intercept({Kind::kOpen, absolute(folder, path), {}, {}, changes}, call);
}

}  // namespace

void arm(const Plan& wanted) {
  const std::lock_guard lock(mutex);
  plan = wanted;
  num_calls = 0;
  recorded.clear();
  armed = true;
}

long disarm(std::vector<Operation>* operations) {
  const std::lock_guard lock(mutex);
  armed = false;
  if (operations != nullptr) *operations = std::move(recorded);
  return num_calls;
}

}  // namespace trainer::fault

using trainer::fault::absolute;
using trainer::fault::intercept;
using trainer::fault::Kind;

// The C library's names, defined here instead of there.
extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return trainer::fault::open_at(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return trainer::fault::open_at(folder, path, flags, mode);
}

ssize_t write(int descriptor, const void* data, size_t size) {
  using namespace trainer::fault;
  if (!armed) return ::syscall(SYS_write, descriptor, data, size);
  const std::string path = path_of(descriptor);
  const Decision decision = decide(path, true);
  if (decision == Decision::kFail) {
    errno = plan.error;
    return -1;
  }
  if (decision == Decision::kShort) size = (size + 1) / 2;
  const ssize_t n = ::syscall(SYS_write, descriptor, data, size);
  if (decision == Decision::kShort && kills_after_half()) ::kill(::getpid(), SIGKILL);
  if (n > 0)
    record({Kind::kWrite, path, {}, {static_cast<const char*>(data), static_cast<size_t>(n)}, {}});
  return n;
}

int fsync(int descriptor) {
  return intercept({Kind::kSync, trainer::fault::path_of(descriptor), {}, {}, {}},
                   [&] { return static_cast<int>(::syscall(SYS_fsync, descriptor)); });
}

int close(int descriptor) {
  // The descriptor is gone even when close reports an error.
  using trainer::fault::real_close;
  if (!trainer::fault::armed) return real_close(descriptor);
  const std::string path = trainer::fault::path_of(descriptor);
  bool closed = false;
  const int result = intercept({Kind::kClose, path, {}, {}, {}}, [&] {
    closed = true;
    return real_close(descriptor);
  });
  if (!closed) {
    const int error = errno;
    real_close(descriptor);
    errno = error;
  }
  return result;
}

int rename(const char* from, const char* to) noexcept {
  return intercept({Kind::kRename, from, to, {}, {}},
                   [&] { return static_cast<int>(::syscall(SYS_rename, from, to)); });
}

int mkdir(const char* path, mode_t mode) noexcept {
  return intercept({Kind::kMakeFolder, path, {}, {}, {}},
                   [&] { return static_cast<int>(::syscall(SYS_mkdir, path, mode)); });
}

int unlink(const char* path) noexcept {
  return intercept({Kind::kRemove, path, {}, {}, {}},
                   [&] { return static_cast<int>(::syscall(SYS_unlink, path)); });
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  return intercept({Kind::kRemove, absolute(folder, path), {}, {}, {}},
                   [&] { return static_cast<int>(::syscall(SYS_unlinkat, folder, path, flags)); });
}

int rmdir(const char* path) noexcept {
  return intercept({Kind::kRemove, path, {}, {}, {}},
                   [&] { return static_cast<int>(::syscall(SYS_rmdir, path)); });
}

int remove(const char* path) noexcept {
  struct stat status {};
  const bool folder = ::lstat(path, &status) == 0 && S_ISDIR(status.st_mode);
  return folder ? rmdir(path) : unlink(path);
}

int symlink(const char* target, const char* path) noexcept {
  return intercept({Kind::kLink, path, target, {}, {}},
                   [&] { return static_cast<int>(::syscall(SYS_symlink, target, path)); });
}

}  // extern "C"

namespace trainer::fault {
namespace {

// The layer sees what the standard library and the code under test do.
TEST(FaultLayer, SeesEveryCallOfASave) {
  const TestFolder run;
  save_step(run, 1, 1, {.keep = 1}, true);
  arm({.folder = run.path(), .record = true});
  save_step(run, 1, 2, {.keep = 1}, true);
  std::vector<Operation> seen;
  const long count = disarm(&seen);
  EXPECT_EQ(count, std::ssize(seen) + 1);  // no temporary link was left to be removed
  std::vector<int> kinds(8, 0);
  for (const Operation& operation : seen) ++kinds[static_cast<std::size_t>(operation.kind)];
  const auto times = [&](Kind kind) { return kinds[static_cast<std::size_t>(kind)]; };
  EXPECT_EQ(times(Kind::kMakeFolder), 1);
  EXPECT_EQ(times(Kind::kWrite), 3);   // model, optimizer, manifest
  EXPECT_EQ(times(Kind::kRename), 6);  // three files, the commit, the link, one pruned
  EXPECT_EQ(times(Kind::kSync), 9);    // three files, and the folder of each rename
  EXPECT_EQ(times(Kind::kLink), 1);
  EXPECT_EQ(times(Kind::kRemove), 4);  // three files and the folder of the pruned one
}

TEST(FaultLayer, ActsAtTheCallItWasTold) {
  const TestFolder folder;
  const std::string file = (folder.path() / "file").native();
  const auto write_ten = [&] {
    const int descriptor = ::open(file.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
    const ssize_t n = ::write(descriptor, "0123456789", 10);
    const int error = errno;
    ::close(descriptor);
    return n < 0 ? -error : n;
  };
  arm({.folder = folder.path(), .action = Action::kError, .at = 1, .error = ENOSPC});
  EXPECT_EQ(write_ten(), -ENOSPC);
  EXPECT_EQ(disarm(), 3);
  arm({.folder = folder.path(), .action = Action::kShortWrite, .at = 1});
  EXPECT_EQ(write_ten(), 5);
  disarm();
  for (const auto& [action, expected] : {std::pair(Action::kKill, 0), {Action::kTornKill, 5}}) {
    const pid_t child = ::fork();
    if (child == 0) {
      arm({.folder = folder.path(), .action = action, .at = 1});
      write_ten();
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    EXPECT_EQ(fs::file_size(file), static_cast<std::uintmax_t>(expected));
  }
}

}  // namespace
}  // namespace trainer::fault
