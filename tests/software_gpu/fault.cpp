#include "tests/software_gpu/fault.h"

#include <cxxabi.h>
#include <execinfo.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "tests/software_gpu/memory.h"

namespace software_gpu {
namespace {

const char* g_running = nullptr;  // guarded by the lock of queue.h; a fault ends the process

void show(const std::string& what) {
  std::fprintf(stderr, "software GPU: %s\n", what.c_str());
  std::array<void*, 40> frames{};
  backtrace_symbols_fd(frames.data(), backtrace(frames.data(), static_cast<int>(frames.size())),
                       STDERR_FILENO);
}

// The process ends of the fault anyway: what is not safe in a handler costs the message at most.
void on_fault(int signal, siginfo_t* info, void*) {
  ::signal(signal, SIG_DFL);
  if (device_of(info->si_addr) >= 0) {
    const Bytes whole = allocation_of(info->si_addr);
    const std::string where =
        whole.empty() ? "that is not allocated"
                      : fmt::format("at byte {} of an allocation of {}",
                                    static_cast<const std::byte*>(info->si_addr) - whole.data(),
                                    whole.size());
    const std::string who =
        g_running == nullptr ? "the host" : "inside " + readable(g_running) + " somebody";
    show(who + " touched device memory " + where);
  }
  raise(signal);
}

}  // namespace

void die(const std::string& what) {
  show(what);
  std::abort();
}

void explain_faults() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, nullptr);
  });
}

void set_running(const char* name) { g_running = name; }

std::string readable(const char* name) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(name, nullptr, nullptr, &status), std::free);
  return status == 0 ? text.get() : name;
}

}  // namespace software_gpu
