#pragma once

#include "comm/build.h"  // before fmt: adapts it to nvcc

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace comm {

// How a run ends; the value is the exit status of the process (sysexits family, so that schedulers
// can branch). Documented for users in README.md.
enum class ExitCode : int {
  kDone = 0,
  kUsage = 64,
  kData = 65,
  kInputMissing = 66,
  kDevice = 69,
  kBug = 70,
  kSystemLimit = 71,
  kOutputBusy = 73,
  kIo = 74,
  kStopped = 75,
  kPeerLost = 76,
  kCheckpointRefused = 77,
  kConfig = 78,
  kDiverged = 79,
};

// The one exception type of the project. `what()` is a single line: what, where, what to do.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// An error that every rank of a communicator throws together, with the same message: the job can
// end in good order and one rank speaks for all.
class AgreedError : public Error {
 public:
  using Error::Error;
};

// Throws Error{code} with a fmt-formatted message.
template <typename... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace comm

// Contract of a function: a violation is a bug of the caller (exit 70).
#define REQUIRE(condition, ...)                                                                    \
  do {                                                                                             \
    if (!(condition))                                                                              \
      throw ::comm::Error(                                                                         \
          ::comm::ExitCode::kBug,                                                                  \
          fmt::format("{}:{}: {}: {}", __FILE__, __LINE__, #condition, fmt::format(__VA_ARGS__))); \
  } while (false)
