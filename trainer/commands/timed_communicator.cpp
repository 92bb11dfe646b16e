#include "trainer/commands/timed_communicator.h"

#include <chrono>
#include <cstdlib>

namespace trainer {
namespace {

using Clock = std::chrono::steady_clock;

// Adds the time of a scope.
class Timed {
 public:
  explicit Timed(double& seconds) : seconds_(seconds), start_(Clock::now()) {}
  ~Timed() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  double& seconds_;
  Clock::time_point start_;
};

class TimedRequest final : public comm::Request {
 public:
  TimedRequest(std::unique_ptr<comm::Request> inner, double& seconds)
      : inner_(std::move(inner)), seconds_(seconds) {}
  bool test() override {
    const Timed timed(seconds_);
    return inner_->test();
  }
  void wait() override {
    const Timed timed(seconds_);
    inner_->wait();
  }

 private:
  std::unique_ptr<comm::Request> inner_;
  double& seconds_;
};

}  // namespace

void TimedCommunicator::barrier() {
  const Timed timed(seconds_);
  inner_.barrier();
}

void TimedCommunicator::broadcast(std::span<std::byte> bytes, int root) {
  const Timed timed(seconds_);
  inner_.broadcast(bytes, root);
}

void TimedCommunicator::all_reduce(std::span<double> values, comm::Reduction reduction) {
  const Timed timed(seconds_);
  inner_.all_reduce(values, reduction);
}

void TimedCommunicator::all_reduce(std::span<std::int64_t> values, comm::Reduction reduction) {
  const Timed timed(seconds_);
  inner_.all_reduce(values, reduction);
}

std::vector<std::string> TimedCommunicator::all_gather(const std::string& bytes) {
  const Timed timed(seconds_);
  return inner_.all_gather(bytes);
}

std::unique_ptr<comm::Request> TimedCommunicator::exchange(std::span<const comm::Message> sends,
                                                           std::span<const comm::Message> receives,
                                                           int tag) {
  const Timed timed(seconds_);
  return std::make_unique<TimedRequest>(inner_.exchange(sends, receives, tag), seconds_);
}

std::unique_ptr<comm::Request> TimedCommunicator::reduce_scatter(std::span<float> whole) {
  const Timed timed(seconds_);
  return std::make_unique<TimedRequest>(inner_.reduce_scatter(whole), seconds_);
}

std::unique_ptr<comm::Request> TimedCommunicator::all_gather(std::span<float> whole) {
  const Timed timed(seconds_);
  return std::make_unique<TimedRequest>(inner_.all_gather(whole), seconds_);
}

void TimedCommunicator::abort(comm::ExitCode code) {
  inner_.abort(code);
  std::abort();  // unreachable: the compiler does not see that a virtual call never returns
}

}  // namespace trainer
