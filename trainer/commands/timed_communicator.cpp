#include "trainer/commands/timed_communicator.h"

#include <chrono>
#include <cstdlib>

namespace trainer {
// Adds the time of a scope. Without a name nobody hears of it.
class TimedCommunicator::Timed {
 public:
  Timed(TimedCommunicator& owner, const char* call) : owner_(owner), call_(call), start_(now()) {}
  ~Timed() {
    const double end = now();
    owner_.seconds_ += end - start_;
    if (call_ && owner_.listener_) owner_.listener_(call_, start_, end);
  }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  static double now() {
    const auto since = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double>(since).count();
  }
  TimedCommunicator& owner_;
  const char* call_;
  double start_;
};

class TimedCommunicator::TimedRequest final : public comm::Request {
 public:
  TimedRequest(std::unique_ptr<comm::Request> inner, TimedCommunicator& owner)
      : inner_(std::move(inner)), owner_(owner) {}
  bool test() override {
    const Timed timed(owner_, nullptr);
    return inner_->test();
  }
  void wait() override {
    const Timed timed(owner_, "wait");
    inner_->wait();
  }

 private:
  std::unique_ptr<comm::Request> inner_;
  TimedCommunicator& owner_;
};

void TimedCommunicator::barrier() {
  const Timed timed(*this, "barrier");
  inner_.barrier();
}

void TimedCommunicator::broadcast(std::span<std::byte> bytes, int root) {
  const Timed timed(*this, "broadcast");
  inner_.broadcast(bytes, root);
}

void TimedCommunicator::all_reduce(std::span<double> values, comm::Reduction reduction) {
  const Timed timed(*this, "all_reduce");
  inner_.all_reduce(values, reduction);
}

void TimedCommunicator::all_reduce(std::span<std::int64_t> values, comm::Reduction reduction) {
  const Timed timed(*this, "all_reduce");
  inner_.all_reduce(values, reduction);
}

std::vector<std::string> TimedCommunicator::all_gather(const std::string& bytes) {
  const Timed timed(*this, "all_gather");
  return inner_.all_gather(bytes);
}

std::unique_ptr<comm::Request> TimedCommunicator::exchange(std::span<const comm::Message> sends,
                                                           std::span<const comm::Message> receives,
                                                           int tag) {
  const Timed timed(*this, "exchange");
  return std::make_unique<TimedRequest>(inner_.exchange(sends, receives, tag), *this);
}

std::unique_ptr<comm::Request> TimedCommunicator::reduce_scatter(std::span<float> whole) {
  const Timed timed(*this, "reduce_scatter");
  return std::make_unique<TimedRequest>(inner_.reduce_scatter(whole), *this);
}

std::unique_ptr<comm::Request> TimedCommunicator::all_gather(std::span<float> whole) {
  const Timed timed(*this, "all_gather");
  return std::make_unique<TimedRequest>(inner_.all_gather(whole), *this);
}

void TimedCommunicator::abort(comm::ExitCode code) {
  inner_.abort(code);
  std::abort();  // unreachable: the compiler does not see that a virtual call never returns
}

}  // namespace trainer
