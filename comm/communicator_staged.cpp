#include "comm/communicator_staged.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "comm/buffer.h"
#include "comm/communicator_controlled.h"

namespace comm {
namespace {

// Host memory for one verb, and the event after the last copy that reads or writes it.
struct Staging {
  Staging(Device device, std::size_t size_bytes)
      : memory(Buffer::for_transfer(device, size_bytes)), idle(device) {}
  ~Staging() {
    try {
      idle.synchronize();
    } catch (const Error&) {  // the device is lost: it copies no more
    }
  }
  Buffer memory;
  Event idle;
};

// Staging by size. Invariant: what is here is used by nobody but copies before its `idle`.
class StagingPool {
 public:
  explicit StagingPool(Device device) : device_(device) {}

  std::unique_ptr<Staging> take(std::size_t size_bytes) {
    const auto fits = [&](const auto& s) { return s->memory.size_bytes() == size_bytes; };
    const auto found = std::ranges::find_if(free_, fits);
    if (found == free_.end()) return std::make_unique<Staging>(device_, size_bytes);
    std::unique_ptr<Staging> staging = std::move(*found);
    free_.erase(found);
    staging->idle.synchronize();
    return staging;
  }
  void give(std::unique_ptr<Staging> staging) { free_.push_back(std::move(staging)); }

 private:
  Device device_;
  std::vector<std::unique_ptr<Staging>> free_;
};

// What has to be copied back to the device when the peers' data is on the host.
struct Arrival {
  std::span<float> to;
  std::span<const float> from;
};

class StagedRequest final : public Request {
 public:
  StagedRequest(StagingPool& pool, StreamView compute, std::unique_ptr<Staging> staging)
      : pool_(pool), compute_(compute), staging_(std::move(staging)) {}

  void start(std::unique_ptr<Request> request, std::vector<Arrival> arrivals) {
    request_ = std::move(request);
    arrivals_ = std::move(arrivals);
  }
  bool test() override {
    if (request_ && !request_->test()) return false;
    finish();
    return true;
  }
  void wait() override {
    if (request_) request_->wait();
    finish();
  }

 private:
  void finish() {
    if (!request_) return;
    for (const auto& [to, from] : arrivals_)
      copy_bytes(compute_, std::as_writable_bytes(to), std::as_bytes(from));
    compute_.record(staging_->idle);
    pool_.give(std::move(staging_));
    request_.reset();
  }

  StagingPool& pool_;
  StreamView compute_;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<Request> request_;  // after the staging it moves; null when done
  std::vector<Arrival> arrivals_;
};

class StagedCommunicator final : public ControlledCommunicator {
 public:
  template <typename Control>  // a reference or an owner
  StagedCommunicator(Control&& control, StreamView compute)
      : ControlledCommunicator(std::forward<Control>(control)),
        compute_(compute),
        pool_(compute.device()) {
    REQUIRE(!compute.on_cpu(), "device memory on a CPU stream");
  }

  using ControlledCommunicator::all_gather;
  std::unique_ptr<Request> exchange(std::span<const Message> sends,
                                    std::span<const Message> receives, int tag) override;
  std::unique_ptr<Request> reduce_scatter(std::span<float> whole) override {
    const std::span<float> own = shard(whole);
    auto [request, staged] = stage(whole.size());
    copy_bytes(compute_, std::as_writable_bytes(staged), std::as_bytes(whole));
    compute_.synchronize();
    request->start(control().reduce_scatter(staged), {{own, shard(staged)}});
    return std::move(request);
  }
  std::unique_ptr<Request> all_gather(std::span<float> whole) override {
    const std::span<float> own = shard(whole);
    auto [request, staged] = stage(whole.size());
    copy_bytes(compute_, std::as_writable_bytes(shard(staged)), std::as_bytes(own));
    compute_.synchronize();
    const auto begin = static_cast<std::size_t>(own.data() - whole.data());
    const std::size_t end = begin + own.size();
    request->start(control().all_gather(staged), {{whole.first(begin), staged.first(begin)},
                                                  {whole.subspan(end), staged.subspan(end)}});
    return std::move(request);
  }

  std::unique_ptr<Communicator> split(int color) override {
    return std::make_unique<StagedCommunicator>(control().split(color), compute_);
  }

 private:
  std::pair<std::unique_ptr<StagedRequest>, std::span<float>> stage(std::size_t count) {
    auto staging = pool_.take(count * sizeof(float));
    const std::span<float> floats = staging->memory.as<float>();
    return {std::make_unique<StagedRequest>(pool_, compute_, std::move(staging)), floats};
  }

  StreamView compute_;
  StagingPool pool_;
};

std::size_t num_floats(std::span<const Message> messages) {
  std::size_t count = 0;
  for (const Message& message : messages) count += message.data.size();
  return count;
}

std::unique_ptr<Request> StagedCommunicator::exchange(std::span<const Message> sends,
                                                      std::span<const Message> receives, int tag) {
  auto [request, rest] = stage(num_floats(sends) + num_floats(receives));
  const auto next = [&rest = rest](std::size_t count) {
    return std::exchange(rest, rest.subspan(count)).first(count);
  };
  std::vector<Message> staged_sends, staged_receives;
  std::vector<Arrival> arrivals;
  for (const auto& [peer, data] : sends) {
    staged_sends.push_back({peer, next(data.size())});
    copy_bytes(compute_, std::as_writable_bytes(staged_sends.back().data), std::as_bytes(data));
  }
  for (const auto& [peer, data] : receives) {
    staged_receives.push_back({peer, next(data.size())});
    arrivals.push_back({data, staged_receives.back().data});
  }
  if (!sends.empty()) compute_.synchronize();
  request->start(control().exchange(staged_sends, staged_receives, tag), std::move(arrivals));
  return std::move(request);
}

}  // namespace

std::unique_ptr<Communicator> staged_communicator(Communicator& control, StreamView compute) {
  return std::make_unique<StagedCommunicator>(control, compute);
}

}  // namespace comm
