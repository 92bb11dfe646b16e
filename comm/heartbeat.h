#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "comm/communicator.h"

namespace comm {

// What a rank is doing, for the limit it is held to and for the message that names it.
enum class Phase : std::uint8_t { kInit, kStep, kEval, kCheckpoint, kEnd };
const char* phase_name(Phase phase);

// The training thread's side: publishes where it is, by two relaxed stores.
class Progress {
 public:
  // `step` any number that grows. Called at least once a micro-batch, evaluated image batch, file.
  void publish(Phase phase, std::int64_t step) {
    where_.store(static_cast<std::uint64_t>(step) << 8 | static_cast<std::uint64_t>(phase),
                 std::memory_order_relaxed);
    count_.fetch_add(1, std::memory_order_relaxed);
  }
  Phase phase() const { return static_cast<Phase>(where_.load(std::memory_order_relaxed) & 0xff); }
  std::int64_t step() const {
    return static_cast<std::int64_t>(where_.load(std::memory_order_relaxed) >> 8);
  }
  std::uint64_t count() const { return count_.load(std::memory_order_relaxed); }
  bool waiting() const { return waiting_.load(std::memory_order_relaxed); }

  // Scope in which this rank only waits for others (a collective, an exchange): it is then not the
  // one to blame for standing still.
  class Waiting {
   public:
    explicit Waiting(Progress& progress) : progress_(progress) { progress_.waiting_ = true; }
    ~Waiting() { progress_.waiting_ = false; }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    Progress& progress_;
  };

 private:
  std::atomic<std::uint64_t> where_{0};
  std::atomic<std::uint64_t> count_{0};
  std::atomic<bool> waiting_{false};
};

struct HeartbeatOptions {
  // A rank not heard of for this long is dead or stopped, whatever its phase; one in a step that
  // publishes nothing for this long is stuck.
  std::chrono::milliseconds limit{30'000};
  // The same for a rank in init, evaluation, checkpoint or end. Any limit grows to ten times the
  // average time between publications, so that a slow network is not called stuck.
  std::chrono::milliseconds long_limit{600'000};
  // Called once, on the thread of the heartbeat of the rank that found out, with the line to print.
  // Empty: prints it on stderr and aborts `communicator` with kPeerLost.
  std::function<void(const std::string&)> on_lost;
};

// A thread per rank that tells rank 0 how the rank gets on, and rank 0 tells all that it lives.
// Names the rank that died, was stopped or got stuck, within its limit + 2 s, although the training
// threads hang in a collective. Messages ride on a communicator of its own.
// Construction and destruction are collective; REQUIRES: `communicator` and `progress` outlive it.
class Heartbeat {
 public:
  Heartbeat(Communicator& communicator, Progress& progress, HeartbeatOptions options);
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

 private:
  void run();
  void report(const std::string& line);

  Communicator& communicator_;
  Progress& progress_;
  HeartbeatOptions options_;
  std::unique_ptr<Communicator> channel_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace comm
