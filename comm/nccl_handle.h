#pragma once

#include <nccl.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "comm/communicator.h"
#include "comm/stream.h"

namespace comm {

// A non-blocking call may answer "in progress": its outcome is read later.
// `joined`: of a communicator that has been working.
void check_nccl(ncclResult_t result, const char* call, bool joined);
#define CHECK_NCCL(call) ::comm::check_nccl((call), #call, true)

// Events around one verb: what it waits for, and its end.
struct NcclVerb {
  explicit NcclVerb(Device device) : ready(device), done(device) {}
  Event ready, done;
};

// Owner of an ncclComm_t, and of the thread that watches it. Its end waits, within the deadline,
// for what is under way and for the peers, which may still read what this rank sent; after an error
// and while an exception passes it aborts, which waits for nobody. Errors: see nccl_communicator.
class NcclHandle {
 public:
  NcclHandle(Device device, std::chrono::seconds step_deadline)
      : device_(device), step_deadline_(step_deadline) {}
  ~NcclHandle();
  NcclHandle(const NcclHandle&) = delete;
  NcclHandle& operator=(const NcclHandle&) = delete;

  // Collective over `control`. Once; begins the watch.
  void join(Communicator& control, std::chrono::seconds deadline);
  // calls(handle), and waits until they are enqueued (not done): at their first use, until the
  // peers have come. What they throw ends this.
  template <typename Calls>
  void enqueue(const char* what, const Calls& calls) {
    const std::lock_guard lock(mutex_);
    throw_if_dead();
    try {
      calls(handle_);
    } catch (const Error& error) {
      end(error.code(), error.what());
    }
    throw_if_dead();
    settle(what, step_deadline_);
  }
  // From now on the verb has to end within the deadline once it is ready. In the order of calls.
  void watch(const char* what, std::shared_ptr<const NcclVerb> verb);
  // Throws the error that ended this, if any did.
  void require_alive();

 private:
  using Clock = std::chrono::steady_clock;
  struct Watched {
    const char* what;
    std::shared_ptr<const NcclVerb> verb;
    std::optional<Clock::time_point> since;  // seen ready
  };

  // All of these with the mutex held.
  void throw_if_dead() const;
  ncclResult_t state() const;
  std::string cause(ncclResult_t result) const;
  void settle(const char* what, std::chrono::seconds deadline);
  void end(ExitCode code, std::string reason);
  void end_late(const char* what, std::chrono::seconds deadline);
  void look();
  void leave();

  void watch_until_stopped();

  Device device_;
  std::chrono::seconds step_deadline_;
  std::string who_;  // this rank, for messages
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ = false;
  ncclComm_t handle_ = nullptr;
  ExitCode code_ = ExitCode::kPeerLost;
  std::string reason_;  // why it ended; empty while it lives
  std::deque<Watched> watched_;
  std::thread thread_;
};

}  // namespace comm
