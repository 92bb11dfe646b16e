#include "comm/signals.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>

#include "comm/error.h"

namespace comm {
namespace {

constexpr std::array kSignals = {SIGUSR1, SIGTERM, SIGINT};
constexpr std::int64_t kSameRequestMs = 1000;

// A signal handler reaches nothing but statics.
std::atomic<int> g_first_signal{0};
std::atomic<std::int64_t> g_first_ms{0};
std::array<struct sigaction, kSignals.size()> g_former;
std::atomic<bool> g_installed{false};
static_assert(std::atomic<int>::is_always_lock_free);
static_assert(std::atomic<std::int64_t>::is_always_lock_free);

// Only async-signal-safe calls (signal-safety(7)).
void on_signal(int signal) {
  const int saved_errno = errno;
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const std::int64_t now_ms = std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
  std::int64_t first_ms = 0;
  if (g_first_ms.compare_exchange_strong(first_ms, now_ms))
    g_first_signal.store(signal);
  else if (now_ms - first_ms >= kSameRequestMs)
    _exit(static_cast<int>(ExitCode::kStopped));
  errno = saved_errno;
}

}  // namespace

StopSignals::StopSignals() {
  REQUIRE(!g_installed.exchange(true), "a second StopSignals");
  g_first_signal = 0;
  g_first_ms = 0;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &g_former[i]);
}

StopSignals::~StopSignals() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &g_former[i], nullptr);
  g_installed = false;
}

int StopSignals::signal() const { return g_first_signal.load(); }

}  // namespace comm
