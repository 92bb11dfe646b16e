#include "comm/communicator_nccl.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <vector>

#include "comm/communicator_controlled.h"
#include "comm/cuda_check.h"
#include "comm/nccl_handle.h"

namespace comm {
namespace {

class NcclRequest final : public Request {
 public:
  NcclRequest(NcclHandle& nccl, StreamView compute, std::shared_ptr<NcclVerb> verb)
      : nccl_(nccl), compute_(compute), verb_(std::move(verb)) {}

  bool test() override {
    const bool done = verb_->done.done();
    nccl_.require_alive();  // afterwards: an abort ends verbs, too
    return done;
  }
  void wait() override {
    nccl_.require_alive();
    compute_.wait(verb_->done);
  }

 private:
  NcclHandle& nccl_;
  StreamView compute_;
  std::shared_ptr<NcclVerb> verb_;
};

// Calls that NCCL starts together. An exception leaves no group open.
class Group {
 public:
  Group() { CHECK_NCCL(ncclGroupStart()); }
  ~Group() {
    if (open_) ncclGroupEnd();
  }
  void end() {
    open_ = false;
    CHECK_NCCL(ncclGroupEnd());
  }

 private:
  bool open_ = true;
};

class NcclCommunicator final : public ControlledCommunicator {
 public:
  template <typename Control>  // a reference or an owner
  NcclCommunicator(Control&& control, NcclOptions options)
      : ControlledCommunicator(std::forward<Control>(control)),
        options_(options),
        stream_(options.compute.device()),
        nccl_(options.compute.device(), options.step_deadline) {
    REQUIRE(!options.compute.on_cpu(), "NCCL on a CPU stream");
    CHECK_CUDA(cudaSetDevice(options.compute.device().index));
    nccl_.join(this->control(), options.init_deadline);
  }

  void barrier() override {
    nccl_.require_alive();
    ControlledCommunicator::barrier();
  }
  void all_reduce(std::span<double> values, Reduction reduction) override {
    nccl_.require_alive();
    ControlledCommunicator::all_reduce(values, reduction);
  }
  void all_reduce(std::span<std::int64_t> values, Reduction reduction) override {
    nccl_.require_alive();
    ControlledCommunicator::all_reduce(values, reduction);
  }

  std::unique_ptr<Request> exchange(std::span<const Message> sends,
                                    std::span<const Message> receives, int tag) override {
    REQUIRE(tag >= 0, "tag {}", tag);
    return start("exchange between GPUs", [&](ncclComm_t handle) {
      Group group;
      for (const auto& [peer, data] : sends)
        CHECK_NCCL(ncclSend(data.data(), data.size(), ncclFloat, peer, handle, native()));
      for (const auto& [peer, data] : receives)
        CHECK_NCCL(ncclRecv(data.data(), data.size(), ncclFloat, peer, handle, native()));
      group.end();
    });
  }
  std::unique_ptr<Request> reduce_scatter(std::span<float> whole) override {
    const std::span<float> own = shard(whole);
    return start("reduce-scatter between GPUs", [&](ncclComm_t handle) {
      CHECK_NCCL(ncclReduceScatter(whole.data(), own.data(), own.size(), ncclFloat, ncclSum, handle,
                                   native()));
    });
  }
  using ControlledCommunicator::all_gather;
  std::unique_ptr<Request> all_gather(std::span<float> whole) override {
    const std::span<float> own = shard(whole);
    return start("all-gather between GPUs", [&](ncclComm_t handle) {
      CHECK_NCCL(ncclAllGather(own.data(), whole.data(), own.size(), ncclFloat, handle, native()));
    });
  }

  std::unique_ptr<Communicator> split(int color) override {
    return std::make_unique<NcclCommunicator>(control().split(color), options_);
  }

 private:
  cudaStream_t native() const { return static_cast<cudaStream_t>(stream_.view().handle()); }

  template <typename Enqueue>
  std::unique_ptr<Request> start(const char* what, const Enqueue& enqueue) {
    const std::shared_ptr<NcclVerb> verb = idle_verb();
    options_.compute.record(verb->ready);
    stream_.view().wait(verb->ready);
    nccl_.enqueue(what, enqueue);
    stream_.view().record(verb->done);
    nccl_.watch(what, verb);
    return std::make_unique<NcclRequest>(nccl_, options_.compute, verb);
  }
  // One that neither a request nor the watch holds, so that a step creates no events.
  std::shared_ptr<NcclVerb> idle_verb() {
    const auto idle = [](const auto& verb) { return verb.use_count() == 1; };
    const auto found = std::ranges::find_if(verbs_, idle);
    if (found != verbs_.end()) return *found;
    return verbs_.emplace_back(std::make_shared<NcclVerb>(options_.compute.device()));
  }

  NcclOptions options_;
  Stream stream_;
  std::vector<std::shared_ptr<NcclVerb>> verbs_;
  NcclHandle nccl_;  // its watch ends first
};

}  // namespace

std::unique_ptr<Communicator> nccl_communicator(Communicator& control, NcclOptions options) {
  return std::make_unique<NcclCommunicator>(control, options);
}

}  // namespace comm
