// Bulk verbs on device memory between ranks that are threads: staged, all with streams of one GPU,
// and by NCCL with a GPU each.
#include "comm/device_communicator.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "comm/buffer.h"
#include "comm/communicator_controlled.h"
#include "comm/communicator_local.h"
#include "comm/gpu.h"
#include "tests/comm/communicator_contract.h"

namespace comm {
namespace {

// A copy on the device of floats of the host, in the order of the stream.
struct Mirror {
  Mirror(StreamView stream, std::span<float> host)
      : stream(stream), host(host), memory(stream.device(), host.size_bytes()) {
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
  OnDevice(std::unique_ptr<Communicator> device, StreamView stream)
      : ControlledCommunicator(std::move(device)), stream_(stream) {}

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

// Every check on `size` ranks.
void expect_contract(bool share_gpu, int size) {
  for (const contract::Named& named : contract::kAll) {
    // NCCL matches exchanges by their order alone.
    if (!share_gpu && named.check == contract::exchange_matches_by_order_and_tag) continue;
    SCOPED_TRACE(fmt::format("{} on {} ranks", named.name, size));
    run_local(size, [&](Communicator& control) {
      const Stream stream(Device{DeviceKind::kCuda, share_gpu ? 0 : control.rank()});
      OnDevice communicator(device_communicator(control, stream, {.share_gpu = share_gpu}), stream);
      named.check(communicator);
    });
  }
}

TEST(DeviceContract, HoldsStaged) {
  if (survey_gpus().gpus.empty()) GTEST_SKIP() << "no GPU";
  for (int size = 1; size <= 4; ++size) expect_contract(true, size);
}

TEST(DeviceContract, HoldsByNccl) {
  if (gpu_libraries().nccl == 0) GTEST_SKIP() << "this build has no NCCL";
  const auto num_gpus = static_cast<int>(survey_gpus().gpus.size());
  if (num_gpus == 0) GTEST_SKIP() << "no GPU";
  for (int size = 1; size <= std::min(num_gpus, 4); ++size) expect_contract(false, size);
}

// Rank 0 is done first. Its communicator stays until rank 1 is done, too, who would else be told
// that a peer is gone.
TEST(DeviceCommunicator, EndsWhenAllRanksAreDone) {
  if (gpu_libraries().nccl == 0) GTEST_SKIP() << "this build has no NCCL";
  if (survey_gpus().gpus.size() < 2) GTEST_SKIP() << "fewer than two GPUs";
  run_local(2, [](Communicator& control) {
    const Stream stream(Device{DeviceKind::kCuda, control.rank()});
    const auto communicator = device_communicator(control, stream);
    std::vector<float> values(std::size_t{1} << 24, static_cast<float>(control.rank()));
    const Mirror mirror(stream, values);
    const auto request = communicator->all_gather(mirror.memory.as<float>());
    request->wait();
    mirror.give_back();
    stream.view().synchronize();
    if (control.rank() == 0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    EXPECT_TRUE(request->test());  // an error if the peer is gone
    EXPECT_EQ(std::ranges::count(values, 0.0f), std::ssize(values) / 2);
  });
}

TEST(DeviceCommunicator, NeedsADevice) {
  EXPECT_THROW(device_communicator(*local_communicators(1)[0], Stream(Device{})), Error);
}

}  // namespace
}  // namespace comm
