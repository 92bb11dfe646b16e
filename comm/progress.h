#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace comm {

// What a rank is doing, for the limit it is held to and for the message that names it.
enum class Phase : std::uint8_t { kInit, kStep, kEval, kCheckpoint, kEnd };

inline const char* phase_name(Phase phase) {
  constexpr std::array kNames = {"init", "step", "evaluation", "checkpoint", "end"};
  return kNames.at(static_cast<std::size_t>(phase));
}

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
  // How long a step may publish nothing before its rank counts as stuck, instead of the heartbeat's
  // own limit, and any other phase where that limit is shorter; 0: for ever.
  void allow(double seconds) {
    limit_ms_ = seconds > 0 ? static_cast<std::int64_t>(1e3 * seconds)
                            : std::numeric_limits<std::int64_t>::max();
  }
  std::chrono::milliseconds limit(std::chrono::milliseconds otherwise) const {
    const std::int64_t limit = limit_ms_.load(std::memory_order_relaxed);
    return limit > 0 ? std::chrono::milliseconds(limit) : otherwise;
  }
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
  std::atomic<std::int64_t> limit_ms_{0};  // 0: the heartbeat's
  std::atomic<bool> waiting_{false};
};

}  // namespace comm
