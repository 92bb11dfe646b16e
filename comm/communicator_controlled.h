#pragma once

#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace comm {

// A communicator whose small verbs and abort are those of `control`, which it may own.
class ControlledCommunicator : public Communicator {
 public:
  explicit ControlledCommunicator(Communicator& control) : control_(control) {}
  explicit ControlledCommunicator(std::unique_ptr<Communicator> control)
      : owned_control_(std::move(control)), control_(*owned_control_) {}

  int rank() const override { return control_.rank(); }
  int size() const override { return control_.size(); }
  std::string host(int rank) const override { return control_.host(rank); }
  void barrier() override { control_.barrier(); }
  void broadcast(std::span<std::byte> bytes, int root) override { control_.broadcast(bytes, root); }
  void all_reduce(std::span<double> values, Reduction reduction) override {
    control_.all_reduce(values, reduction);
  }
  void all_reduce(std::span<std::int64_t> values, Reduction reduction) override {
    control_.all_reduce(values, reduction);
  }
  std::vector<std::string> all_gather(const std::string& bytes) override {
    return control_.all_gather(bytes);
  }
  [[noreturn]] void abort(ExitCode code) override {
    control_.abort(code);
    std::_Exit(static_cast<int>(code));
  }

 protected:
  Communicator& control() const { return control_; }
  // This rank's part of size() equal shards. REQUIRES: size() divides the floats.
  std::span<float> shard(std::span<float> whole) const {
    const auto ranks = static_cast<std::size_t>(size());
    REQUIRE(whole.size() % ranks == 0, "{} floats, {} ranks", whole.size(), ranks);
    const std::size_t count = whole.size() / ranks;
    return whole.subspan(static_cast<std::size_t>(rank()) * count, count);
  }

 private:
  std::unique_ptr<Communicator> owned_control_;
  Communicator& control_;
};

}  // namespace comm
