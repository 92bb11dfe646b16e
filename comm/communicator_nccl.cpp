#include "comm/communicator_nccl.h"

#include <cuda_runtime.h>
#include <nccl.h>

#include <cstdlib>
#include <thread>
#include <vector>

#include "comm/cuda_check.h"

namespace comm {
namespace {

using Clock = std::chrono::steady_clock;

ExitCode exit_code(ncclResult_t result) {
  if (result == ncclUnhandledCudaError) return ExitCode::kDevice;
  if (result == ncclInvalidArgument || result == ncclInvalidUsage) return ExitCode::kBug;
  return ExitCode::kPeerLost;
}

// A non-blocking call may answer "in progress": its outcome is read by `settle`.
void check_nccl(ncclResult_t result, const char* call) {
  if (result != ncclSuccess && result != ncclInProgress)
    fail(exit_code(result), "{}: {}; see NCCL_DEBUG=INFO or run `ridgeline doctor`", call,
         ncclGetErrorString(result));
}
#define CHECK_NCCL(call) check_nccl((call), #call)

// Owner of an ncclComm_t, and the only one that waits for it. Always ended by abort, which, unlike
// destroy, never waits for a peer.
class NcclHandle {
 public:
  explicit NcclHandle(std::chrono::seconds deadline) : deadline_(deadline) {}
  ~NcclHandle() { abort(); }
  NcclHandle(const NcclHandle&) = delete;
  NcclHandle& operator=(const NcclHandle&) = delete;

  void join(const ncclUniqueId& id, int rank, int size, std::chrono::seconds deadline) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    CHECK_NCCL(ncclCommInitRankConfig(&handle_, size, id, rank, &config));
    settle("joining the GPUs of all ranks", deadline);
  }
  ncclComm_t get() const {
    if (handle_ == nullptr) fail(ExitCode::kPeerLost, "NCCL was ended after an earlier error");
    return handle_;
  }
  // Waits until the calls so far are enqueued (not done). Errors: see nccl_communicator.
  void settle(const char* what) { settle(what, deadline_); }
  // Throws when NCCL met an error in the background; true while a call is being enqueued.
  bool in_progress(const char* what) {
    ncclResult_t state = ncclSuccess;
    CHECK_NCCL(ncclCommGetAsyncError(get(), &state));
    if (state == ncclSuccess || state == ncclInProgress) return state == ncclInProgress;
    abort();
    fail(exit_code(state), "{}: {}; start the same command again", what, ncclGetErrorString(state));
  }
  void late(const char* what, std::chrono::seconds deadline) {
    abort();
    fail(ExitCode::kPeerLost, "{} took more than {} s; a peer or the network is gone", what,
         deadline.count());
  }
  std::chrono::seconds deadline() const { return deadline_; }
  void abort() {
    if (handle_ != nullptr) ncclCommAbort(handle_);
    handle_ = nullptr;
  }

 private:
  void settle(const char* what, std::chrono::seconds deadline) {
    const auto end = Clock::now() + deadline;
    while (in_progress(what)) {
      if (Clock::now() > end) late(what, deadline);
      std::this_thread::yield();
    }
  }

  std::chrono::seconds deadline_;
  ncclComm_t handle_ = nullptr;
};

// Everything on the stream up to here.
class NcclRequest final : public Request {
 public:
  NcclRequest(NcclHandle& nccl, std::vector<Event>& idle, StreamView stream)
      : nccl_(nccl), idle_(idle), event_(take(idle, stream.device())) {
    stream.record(event_);
  }
  ~NcclRequest() override { idle_.push_back(std::move(event_)); }

  bool test() override {
    nccl_.in_progress("communication between GPUs");
    return event_.done();
  }
  void wait() override {
    const auto end = Clock::now() + nccl_.deadline();
    while (!test()) {
      if (Clock::now() > end) nccl_.late("communication between GPUs", nccl_.deadline());
      std::this_thread::yield();
    }
  }

 private:
  static Event take(std::vector<Event>& idle, Device device) {
    if (idle.empty()) return Event(device);
    Event event = std::move(idle.back());
    idle.pop_back();
    return event;
  }

  NcclHandle& nccl_;
  std::vector<Event>& idle_;
  Event event_;
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Communicator& control, NcclOptions options)
      : control_(control), options_(options), nccl_(options.step_deadline) {
    REQUIRE(!options.stream.on_cpu(), "NCCL on a CPU stream");
    CHECK_CUDA(cudaSetDevice(options.stream.device().index));
    ncclUniqueId id{};
    if (control.rank() == 0) CHECK_NCCL(ncclGetUniqueId(&id));
    control.broadcast(std::as_writable_bytes(std::span(&id, 1)), 0);
    nccl_.join(id, control.rank(), control.size(), options.init_deadline);
  }
  NcclCommunicator(std::unique_ptr<Communicator> control, NcclOptions options)
      : NcclCommunicator(*control, options) {
    owned_control_ = std::move(control);
  }

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

  std::unique_ptr<Request> exchange(std::span<const Message> sends,
                                    std::span<const Message> receives, int) override {
    ncclComm_t handle = nccl_.get();
    CHECK_NCCL(ncclGroupStart());
    for (const auto& [peer, data] : sends)
      CHECK_NCCL(ncclSend(data.data(), data.size(), ncclFloat, peer, handle, stream()));
    for (const auto& [peer, data] : receives)
      CHECK_NCCL(ncclRecv(data.data(), data.size(), ncclFloat, peer, handle, stream()));
    CHECK_NCCL(ncclGroupEnd());
    return started("exchange between GPUs");
  }
  std::unique_ptr<Request> reduce_scatter(std::span<float> whole) override {
    const std::span<float> own = shard(whole);
    CHECK_NCCL(ncclReduceScatter(whole.data(), own.data(), own.size(), ncclFloat, ncclSum,
                                 nccl_.get(), stream()));
    return started("reduce-scatter between GPUs");
  }
  std::unique_ptr<Request> all_gather(std::span<float> whole) override {
    const std::span<float> own = shard(whole);
    CHECK_NCCL(
        ncclAllGather(own.data(), whole.data(), own.size(), ncclFloat, nccl_.get(), stream()));
    return started("all-gather between GPUs");
  }

  std::unique_ptr<Communicator> split(int color) override {
    return std::make_unique<NcclCommunicator>(control_.split(color), options_);
  }

  [[noreturn]] void abort(ExitCode code) override {
    // Not ncclCommAbort: it waits for kernels, and the process ends anyway.
    control_.abort(code);
    std::_Exit(static_cast<int>(code));
  }

 private:
  cudaStream_t stream() const { return static_cast<cudaStream_t>(options_.stream.handle()); }
  std::span<float> shard(std::span<float> whole) const {
    const std::size_t ranks = static_cast<std::size_t>(size());
    REQUIRE(whole.size() % ranks == 0, "{} floats, {} ranks", whole.size(), ranks);
    const std::size_t count = whole.size() / ranks;
    return whole.subspan(static_cast<std::size_t>(rank()) * count, count);
  }
  std::unique_ptr<Request> started(const char* what) {
    nccl_.settle(what);
    return std::make_unique<NcclRequest>(nccl_, idle_events_, options_.stream);
  }

  std::unique_ptr<Communicator> owned_control_;
  Communicator& control_;
  NcclOptions options_;
  NcclHandle nccl_;
  std::vector<Event> idle_events_;  // so that a step creates none
};

}  // namespace

std::unique_ptr<Communicator> nccl_communicator(Communicator& control, NcclOptions options) {
  return std::make_unique<NcclCommunicator>(control, options);
}

}  // namespace comm
