#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "comm/communicator.h"
#include "comm/progress.h"

namespace comm {

struct HeartbeatOptions {
  // A rank not heard of for this long is dead or stopped, whatever its phase; one in a step that
  // publishes nothing for this long is stuck.
  std::chrono::milliseconds limit{30'000};
  // The same for a rank in init, evaluation, checkpoint or end, and longer where Progress::allow
  // says so. Any limit grows to ten times the average time between publications, so that a slow
  // network is not called stuck.
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
  std::atomic<bool> failing_{false};
  std::thread thread_;
};

}  // namespace comm
