#include "trainer/checkpoint/isolated.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>

#include "trainer/checkpoint/text.h"

namespace trainer {
namespace {

using comm::ExitCode;

constexpr int kRefused = 1;                // exit status: the message is in the second pipe
constexpr std::size_t kMaxMessage = 2048;  // less than a pipe holds: the child never waits

struct Pipe {
  int ends[2] = {-1, -1};
  Pipe() {
    if (::pipe2(ends, O_CLOEXEC) != 0)
      comm::fail(ExitCode::kSystemLimit, "cannot create a pipe: {}", error_text(errno));
  }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  void close_end(int i) {
    if (ends[i] >= 0) ::close(ends[i]);
    ends[i] = -1;
  }
};

void limit(int resource, rlim_t value) {
  const struct rlimit both = {value, value};
  if (::setrlimit(static_cast<__rlimit_resource>(resource), &both) != 0) ::_exit(2);
}

[[noreturn]] void be_child(const std::function<void(Stream&)>& work, Pipe& data, Pipe& messages) {
  // The run's handlers are not for this process.
  for (const int number : {SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGSEGV, SIGBUS, SIGABRT, SIGFPE})
    ::signal(number, SIG_DFL);
  ::signal(SIGPIPE, SIG_IGN);
  data.close_end(0);  // else a write to a parent that has gone would block for ever
  messages.close_end(0);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_NOFILE, kMaxFilesOfChild);
  limit(RLIMIT_CPU, kCpuSeconds);
  std::string problem;
  try {
    Stream stream(data.ends[1]);
    work(stream);
    ::_exit(0);
  } catch (const std::exception& error) {
    problem = error.what();
  } catch (...) {
    problem = "unknown exception";
  }
  problem.resize(std::min(problem.size(), kMaxMessage));
  try {
    Stream(messages.ends[1]).write(std::as_bytes(std::span(problem)));
  } catch (const comm::Error&) {
    ::_exit(2);  // nobody listens
  }
  ::_exit(kRefused);
}

int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR)
      comm::fail(ExitCode::kBug, "cannot wait for a child: {}", error_text(errno));
  return status;
}

std::string read_message(int descriptor) {
  std::string text(kMaxMessage, '\0');
  const ssize_t n = ::read(descriptor, text.data(), text.size());
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return text;
}

}  // namespace

void Stream::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(descriptor_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) comm::fail(ExitCode::kData, "the reader is gone: {}", error_text(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void Stream::read(std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::read(descriptor_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) comm::fail(ExitCode::kData, "it ends early");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void run_isolated(const std::function<void(Stream&)>& child,
                  const std::function<void(Stream&)>& parent) {
  Pipe data;
  Pipe messages;
  const pid_t process = ::fork();
  if (process < 0)
    comm::fail(ExitCode::kSystemLimit, "cannot start a process: {}", error_text(errno));
  if (process == 0) be_child(child, data, messages);
  data.close_end(1);
  messages.close_end(1);
  std::optional<comm::Error> problem;
  try {
    Stream stream(data.ends[0]);
    parent(stream);
  } catch (const comm::Error& error) {
    problem = error;
  }
  data.close_end(0);
  if (problem) ::kill(process, SIGKILL);  // no effect on one that has already ended
  const int status = wait_for(process);
  if (WIFSIGNALED(status))
    comm::fail(ExitCode::kData, "it crashed its reader (signal {})", WTERMSIG(status));
  if (WEXITSTATUS(status) == kRefused)
    throw comm::Error(ExitCode::kData, read_message(messages.ends[0]));
  if (problem) throw *problem;
  if (status != 0) comm::fail(ExitCode::kData, "its reader ended with {}", WEXITSTATUS(status));
}

}  // namespace trainer
