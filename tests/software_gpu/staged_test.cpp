// The staged communicator between ranks that are threads, each with a stream of one software GPU.
#include <gtest/gtest.h>

#include "comm/buffer.h"
#include "comm/communicator_controlled.h"
#include "comm/communicator_local.h"
#include "comm/device_communicator.h"
#include "comm/parallel.h"
#include "tests/comm/communicator_contract.h"

namespace comm {
namespace {

constexpr Device kGpu{DeviceKind::kCuda, 0};

// A copy on the device of floats of the host, in the order of the stream.
struct Mirror {
  Mirror(StreamView stream, std::span<float> host)
      : stream(stream), host(host), memory(kGpu, host.size_bytes()) {
    copy_bytes(stream, memory.bytes(), std::as_bytes(host));
  }
  void give_back() const { copy_bytes(stream, std::as_writable_bytes(host), memory.bytes()); }
  StreamView stream;
  std::span<float> host;
  Buffer memory;
};

// Copies what a verb wrote to where the contract looks.
class MirroredRequest final : public Request {
 public:
  MirroredRequest(std::vector<Mirror> mirrors) : mirrors_(std::move(mirrors)) {}
  void start(std::unique_ptr<Request> request) { request_ = std::move(request); }
  std::span<float> floats(std::size_t k) const { return mirrors_[k].memory.as<float>(); }
  bool test() override {
    if (!request_->test()) return false;
    give_back();
    return true;
  }
  void wait() override {
    request_->wait();
    give_back();
  }

 private:
  void give_back() const {
    for (const Mirror& mirror : mirrors_) mirror.give_back();
  }
  std::vector<Mirror> mirrors_;
  std::unique_ptr<Request> request_;
};

// Lets the contract, whose floats lie on the host, speak to a communicator of device memory.
class OnDevice final : public ControlledCommunicator {
 public:
  OnDevice(std::unique_ptr<Communicator> staged, StreamView stream)
      : ControlledCommunicator(std::move(staged)), stream_(stream) {}

  using ControlledCommunicator::all_gather;
  std::unique_ptr<Request> exchange(std::span<const Message> sends,
                                    std::span<const Message> receives, int tag) override {
    std::vector<Mirror> mirrors;
    for (const auto list : {sends, receives})
      for (const Message& message : list) mirrors.emplace_back(stream_, message.data);
    auto request = std::make_unique<MirroredRequest>(std::move(mirrors));
    std::vector<Message> moved[2];
    std::size_t k = 0;
    for (const Message& send : sends) moved[0].push_back({send.peer, request->floats(k++)});
    for (const Message& receive : receives)
      moved[1].push_back({receive.peer, request->floats(k++)});
    request->start(control().exchange(moved[0], moved[1], tag));
    return request;
  }
  std::unique_ptr<Request> reduce_scatter(std::span<float> whole) override {
    auto request = mirrored(whole);
    request->start(control().reduce_scatter(request->floats(0)));
    return request;
  }
  std::unique_ptr<Request> all_gather(std::span<float> whole) override {
    auto request = mirrored(whole);
    request->start(control().all_gather(request->floats(0)));
    return request;
  }
  std::unique_ptr<Communicator> split(int color) override {
    return std::make_unique<OnDevice>(control().split(color), stream_);
  }

 private:
  std::unique_ptr<MirroredRequest> mirrored(std::span<float> whole) {
    std::vector<Mirror> mirrors;
    mirrors.emplace_back(stream_, whole);
    return std::make_unique<MirroredRequest>(std::move(mirrors));
  }
  StreamView stream_;
};

class StagedContract : public testing::TestWithParam<std::tuple<contract::Named, int>> {};

TEST_P(StagedContract, Holds) {
  const auto& [named, size] = GetParam();
  run_local(size, [&](Communicator& control) {
    const Stream stream(kGpu);
    OnDevice communicator(device_communicator(control, stream), stream);
    named.check(communicator);
  });
}

INSTANTIATE_TEST_SUITE_P(All, StagedContract,
                         testing::Combine(testing::ValuesIn(contract::kAll), testing::Range(1, 5)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_on_" +
                                  std::to_string(std::get<1>(info.param));
                         });

struct Store {
  float value;
  float* to;
  RIDGELINE_HD void operator()(std::int64_t i) const { to[i] = value; }
};
struct Double {
  const float* from;
  float* to;
  RIDGELINE_HD void operator()(std::int64_t i) const { to[i] = 2 * from[i]; }
};

// Nobody synchronizes between a kernel that writes, the verb, and a kernel that reads.
TEST(StagedCommunicator, VerbsAreOrderedWithTheComputeStream) {
  const std::size_t shard = 50;
  run_local(3, [&](Communicator& control) {
    const Stream stream(kGpu);
    const auto staged = device_communicator(control, stream);
    const auto ranks = static_cast<std::size_t>(control.size());
    const auto own = static_cast<std::size_t>(control.rank());
    const Buffer whole(kGpu, ranks * shard * sizeof(float));
    const Buffer doubled(kGpu, whole.size_bytes());
    const auto count = static_cast<std::int64_t>(ranks * shard);
    std::vector<float> result(ranks * shard);
    std::int64_t allocations = 0;
    for (int step = 0; step < 4; ++step) {
      parallel_for(stream, shard,
                   Store{static_cast<float>(own + 10 * static_cast<std::size_t>(step)),
                         whole.as<float>().data() + own * shard});
      const auto request = staged->all_gather(whole.as<float>());
      request->wait();
      parallel_for(stream, count, Double{whole.as<float>().data(), doubled.as<float>().data()});
      copy_bytes(stream, std::as_writable_bytes(std::span(result)), doubled.bytes());
      for (std::size_t i = 0; i < result.size(); ++i)
        ASSERT_EQ(result[i],
                  static_cast<float>(2 * (i / shard + 10 * static_cast<std::size_t>(step))));
      control.barrier();
      if (step == 0) allocations = allocation_count();
      control.barrier();
    }
    EXPECT_EQ(allocation_count(), allocations);  // the staging of the first step serves all
  });
}

TEST(StagedCommunicator, NeedsADevice) {
  EXPECT_THROW(device_communicator(*local_communicators(1)[0], Stream(Device{})), Error);
}

}  // namespace
}  // namespace comm
