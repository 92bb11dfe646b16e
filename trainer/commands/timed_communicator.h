#pragma once

#include <functional>

#include "comm/communicator.h"

namespace trainer {

// Passes every call on to another communicator and adds up the time spent inside, so that `bench`
// can tell communication from the work around it.
class TimedCommunicator final : public comm::Communicator {
 public:
  explicit TimedCommunicator(comm::Communicator& inner) : inner_(inner) {}

  double seconds() const { return seconds_; }
  // Called after each call but requests' tests, with its name, and seconds of the steady clock.
  using Listener = std::function<void(const char* call, double start, double end)>;
  void listen(Listener listener) { listener_ = std::move(listener); }

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::string host(int rank) const override { return inner_.host(rank); }
  void barrier() override;
  void broadcast(std::span<std::byte> bytes, int root) override;
  void all_reduce(std::span<double> values, comm::Reduction reduction) override;
  void all_reduce(std::span<std::int64_t> values, comm::Reduction reduction) override;
  std::vector<std::string> all_gather(const std::string& bytes) override;
  std::unique_ptr<comm::Request> exchange(std::span<const comm::Message> sends,
                                          std::span<const comm::Message> receives,
                                          int tag) override;
  std::unique_ptr<comm::Request> reduce_scatter(std::span<float> whole) override;
  std::unique_ptr<comm::Request> all_gather(std::span<float> whole) override;
  std::unique_ptr<comm::Communicator> split(int color) override { return inner_.split(color); }
  [[noreturn]] void abort(comm::ExitCode code) override;

 private:
  class Timed;
  class TimedRequest;

  comm::Communicator& inner_;
  double seconds_ = 0;
  Listener listener_;
};

}  // namespace trainer
