#include <cuda_runtime.h>
#include <fmt/format.h>

#include <exception>
#include <span>
#include <string_view>
#include <utility>

#include "comm/nccl_handle.h"

namespace comm {
namespace {

constexpr std::chrono::milliseconds kLook{50};

// `joined`: a connection stood before, so the other side is gone; else this machine lacks something
// such as shared memory or a network interface.
ExitCode exit_code(ncclResult_t result, bool joined) {
  switch (result) {
    case ncclUnhandledCudaError: return ExitCode::kDevice;
    case ncclInvalidArgument:
    case ncclInvalidUsage:
    case ncclInternalError: return ExitCode::kBug;
    case ncclSystemError: return joined ? ExitCode::kPeerLost : ExitCode::kSystemLimit;
    default: return ExitCode::kPeerLost;
  }
}

}  // namespace

void check_nccl(ncclResult_t result, const char* call, bool joined) {
  if (result != ncclSuccess && result != ncclInProgress)
    fail(exit_code(result, joined), "{}: {}; see NCCL_DEBUG=INFO or run `ridgeline doctor`", call,
         ncclGetErrorString(result));
}

NcclHandle::~NcclHandle() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_all();
  if (thread_.joinable()) thread_.join();
  try {
    if (handle_ != nullptr && std::uncaught_exceptions() == 0) leave();
  } catch (const Error& error) {  // the work is done: nobody needs to know
    end(error.code(), error.what());
  }
  if (handle_ != nullptr) ncclCommAbort(handle_);
}

void NcclHandle::join(Communicator& control, std::chrono::seconds deadline) {
  ncclUniqueId id{};
  if (control.rank() == 0) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId", false);
  control.broadcast(std::as_writable_bytes(std::span(&id, 1)), 0);
  const std::lock_guard lock(mutex_);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  check_nccl(ncclCommInitRankConfig(&handle_, control.size(), id, control.rank(), &config),
             "ncclCommInitRankConfig", false);
  who_ = fmt::format("rank {} on {}", control.rank(), control.host(control.rank()));
  settle("joining the GPUs of all ranks", deadline);
  thread_ = std::thread([this] { watch_until_stopped(); });
}

void NcclHandle::watch(const char* what, std::shared_ptr<const NcclVerb> verb) {
  const std::lock_guard lock(mutex_);
  watched_.push_back({what, std::move(verb), {}});
}

void NcclHandle::require_alive() {
  const std::lock_guard lock(mutex_);
  throw_if_dead();
}

void NcclHandle::throw_if_dead() const {
  if (!reason_.empty()) fail(code_, "{}", reason_);
}

ncclResult_t NcclHandle::state() const {
  ncclResult_t state = ncclSuccess;
  const ncclResult_t call = ncclCommGetAsyncError(handle_, &state);
  return call == ncclSuccess ? state : call;
}

// Of NCCL's own words the first line, which names the call or the peer.
std::string NcclHandle::cause(ncclResult_t result) const {
  const std::string_view detail = handle_ != nullptr ? ncclGetLastError(handle_) : "";
  const std::string_view line = detail.substr(0, detail.find('\n'));
  return fmt::format("{}: {}{}{}", who_, ncclGetErrorString(result), line.empty() ? "" : ": ",
                     line);
}

void NcclHandle::settle(const char* what, std::chrono::seconds deadline) {
  const auto end_by = Clock::now() + deadline;
  ncclResult_t now = ncclSuccess;
  while ((now = state()) == ncclInProgress) {
    if (Clock::now() > end_by) {
      end_late(what, deadline);
      break;
    }
    std::this_thread::yield();
  }
  if (now != ncclSuccess && now != ncclInProgress)
    end(exit_code(now, thread_.joinable()),
        fmt::format("{}: {}; start the same command again", what, cause(now)));
  throw_if_dead();
}

void NcclHandle::end(ExitCode code, std::string reason) {
  code_ = code;
  reason_ = std::move(reason);
  ncclComm_t handle = std::exchange(handle_, nullptr);
  // On a device that is lost an abort may never return; the process is about to end anyway.
  if (handle != nullptr && code != ExitCode::kDevice) ncclCommAbort(handle);
}

void NcclHandle::end_late(const char* what, std::chrono::seconds deadline) {
  end(ExitCode::kPeerLost,
      fmt::format("{}: {} took more than {} s; a peer or the network is gone", who_, what,
                  deadline.count()));
}

// Finalizing is done when the communicator has come to rest on all ranks.
void NcclHandle::leave() {
  while (reason_.empty() && !watched_.empty()) {
    look();
    std::this_thread::yield();
  }
  throw_if_dead();
  CHECK_NCCL(ncclCommFinalize(handle_));
  settle("leaving the GPUs of all ranks", step_deadline_);
  CHECK_NCCL(ncclCommDestroy(std::exchange(handle_, nullptr)));
}

// Verbs end in the order of their calls: the first that has not is the one to watch.
void NcclHandle::look() {
  const ncclResult_t now = state();
  if (now != ncclSuccess && now != ncclInProgress)
    return end(exit_code(now, true),
               fmt::format("communication between GPUs: {}; start the same command again",
                           cause(now)));
  while (!watched_.empty() && watched_.front().verb->done.done()) watched_.pop_front();
  if (watched_.empty()) return;
  Watched& first = watched_.front();
  if (!first.since && first.verb->ready.done()) first.since = Clock::now();
  if (first.since && Clock::now() > *first.since + step_deadline_)
    end_late(first.what, step_deadline_);
}

void NcclHandle::watch_until_stopped() {
  // A thread begins on device 0, where its first query would make a context. Errors are seen there.
  static_cast<void>(cudaSetDevice(device_.index));
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, kLook, [this] { return stop_; })) {
    if (!reason_.empty()) return;
    try {
      look();
    } catch (const Error& error) {  // of an event: the device is lost
      end(error.code(), error.what());
    }
  }
}

}  // namespace comm
