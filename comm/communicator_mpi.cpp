#include "comm/communicator_mpi.h"

#include <mpi.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <numeric>

#include "comm/communicator_local.h"
#include "comm/device.h"
#include "comm/launcher.h"
#include "comm/reduction.h"

namespace comm {
namespace {

constexpr std::size_t kMaxReduceCount = std::size_t{1} << 16;  // bounds the gathered copy
constexpr int kMaxTag = 32767;  // the least MPI_TAG_UB that the standard allows

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  std::replace(text.begin(), text.begin() + length, '\n', ' ');
  fail(ExitCode::kPeerLost,
       "{} failed on host {}: {}; a peer or the network is gone, start the same command again",
       call, host_name(), text.data());
}
#define CHECK_MPI(call) check_mpi((call), #call)

// piece(offset, count) for consecutive pieces of at most `max_count` elements.
template <typename Piece>
void for_pieces(std::size_t size, std::size_t max_count, Piece piece) {
  for (std::size_t offset = 0; offset < size; offset += max_count)
    piece(offset, static_cast<int>(std::min(max_count, size - offset)));
}

class MpiRequest final : public Request {
 public:
  ~MpiRequest() override {
    // Only an exception comes here with operations in flight. Nothing may write to memory that is
    // about to go; a send only reads, and waiting for it could hang.
    for (std::size_t i = 0; i < std::min(num_receives_, requests_.size()); ++i)
      if (requests_[i] != MPI_REQUEST_NULL && MPI_Cancel(&requests_[i]) == MPI_SUCCESS)
        MPI_Wait(&requests_[i], MPI_STATUS_IGNORE);
  }
  // REQUIRES: before any other `add`.
  void add_receive(MPI_Request request) {
    requests_.push_back(request);
    num_receives_ = requests_.size();
  }
  void add(MPI_Request request) { requests_.push_back(request); }
  // A reduce-scatter leaves its sum at the front of the whole: moved to its place when done.
  void move_when_done(std::span<float> from, std::span<float> to) {
    from_ = from;
    to_ = to;
  }

  bool test() override {
    int done = 0;
    CHECK_MPI(MPI_Testall(count(), requests_.data(), &done, MPI_STATUSES_IGNORE));
    if (done != 0) finish();
    return done != 0;
  }
  void wait() override {
    CHECK_MPI(MPI_Waitall(count(), requests_.data(), MPI_STATUSES_IGNORE));
    finish();
  }

 private:
  int count() const { return static_cast<int>(requests_.size()); }
  void finish() {
    requests_.clear();
    if (from_.data() != to_.data()) std::memmove(to_.data(), from_.data(), to_.size_bytes());
    from_ = to_ = {};
  }

  std::vector<MPI_Request> requests_;
  std::size_t num_receives_ = 0;  // at the front
  std::span<float> from_, to_;
};

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(MPI_Comm handle, std::size_t max_count) : handle_(handle), max_count_(max_count) {
    CHECK_MPI(MPI_Comm_set_errhandler(handle_, MPI_ERRORS_RETURN));
    CHECK_MPI(MPI_Comm_rank(handle_, &rank_));
    CHECK_MPI(MPI_Comm_size(handle_, &size_));
    hosts_ = all_gather(host_name());
  }
  ~MpiCommunicator() override {
    if (handle_ != MPI_COMM_WORLD && std::uncaught_exceptions() == 0) MPI_Comm_free(&handle_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string host(int rank) const override { return hosts_.at(static_cast<std::size_t>(rank)); }

  void barrier() override { CHECK_MPI(MPI_Barrier(handle_)); }
  void broadcast(std::span<std::byte> bytes, int root) override {
    for_pieces(bytes.size(), max_count_, [&](std::size_t offset, int count) {
      CHECK_MPI(MPI_Bcast(bytes.data() + offset, count, MPI_BYTE, root, handle_));
    });
  }
  // Gathered and added here: the library's own order depends on the ranks and the algorithm.
  void all_reduce(std::span<double> values, Reduction reduction) override {
    reduce(values, reduction, MPI_DOUBLE);
  }
  void all_reduce(std::span<std::int64_t> values, Reduction reduction) override {
    reduce(values, reduction, MPI_INT64_T);
  }
  std::vector<std::string> all_gather(const std::string& bytes) override;

  std::unique_ptr<Request> exchange(std::span<const Message> sends,
                                    std::span<const Message> receives, int tag) override;
  std::unique_ptr<Request> reduce_scatter(std::span<float> whole) override;
  std::unique_ptr<Request> all_gather(std::span<float> whole) override;

  std::unique_ptr<Communicator> split(int color) override {
    REQUIRE(color >= 0, "color {}", color);
    MPI_Comm part = MPI_COMM_NULL;
    CHECK_MPI(MPI_Comm_split(handle_, color, rank_, &part));
    return std::make_unique<MpiCommunicator>(part, max_count_);
  }

  [[noreturn]] void abort(ExitCode code) override {
    MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
    std::_Exit(static_cast<int>(code));
  }

 private:
  template <typename T>
  void reduce(std::span<T> values, Reduction reduction, MPI_Datatype type) {
    const std::size_t ranks = static_cast<std::size_t>(size_);
    const std::size_t max_count = std::min(max_count_, kMaxReduceCount);
    std::vector<T> gathered(ranks * std::min(values.size(), max_count));
    for_pieces(values.size(), max_count, [&](std::size_t offset, int count) {
      T* const piece = values.data() + offset;
      CHECK_MPI(MPI_Allgather(piece, count, type, gathered.data(), count, type, handle_));
      const std::size_t n = static_cast<std::size_t>(count);
      reduce_in_order<T>(std::span(gathered).first(ranks * n), reduction, {piece, n});
    });
  }
  std::span<float> shard(std::span<float> whole) const {
    const std::size_t ranks = static_cast<std::size_t>(size_);
    REQUIRE(whole.size() % ranks == 0, "{} floats, {} ranks", whole.size(), size_);
    const std::size_t count = whole.size() / ranks;
    return whole.subspan(static_cast<std::size_t>(rank_) * count, count);
  }

  MPI_Comm handle_;
  std::size_t max_count_;
  int rank_ = 0;
  int size_ = 1;
  std::vector<std::string> hosts_;
};

std::vector<std::string> MpiCommunicator::all_gather(const std::string& bytes) {
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(size_));
  const auto own = static_cast<std::int64_t>(bytes.size());
  CHECK_MPI(MPI_Allgather(&own, 1, MPI_INT64_T, sizes.data(), 1, MPI_INT64_T, handle_));
  std::vector<std::string> all;
  const std::int64_t total = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
  if (total > static_cast<std::int64_t>(max_count_)) {  // beyond the counts of one call
    for (int root = 0; root < size_; ++root) {
      std::string part = bytes;
      part.resize(static_cast<std::size_t>(sizes[static_cast<std::size_t>(root)]));
      broadcast(std::as_writable_bytes(std::span(part)), root);
      all.push_back(std::move(part));
    }
    return all;
  }
  const std::vector<int> counts(sizes.begin(), sizes.end());
  std::vector<int> offsets(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), offsets.begin(), 0);
  std::string joined(static_cast<std::size_t>(total), '\0');
  CHECK_MPI(MPI_Allgatherv(bytes.data(), static_cast<int>(own), MPI_BYTE, joined.data(),
                           counts.data(), offsets.data(), MPI_BYTE, handle_));
  for (std::size_t rank = 0; rank < counts.size(); ++rank)
    all.push_back(joined.substr(static_cast<std::size_t>(offsets[rank]),
                                static_cast<std::size_t>(counts[rank])));
  return all;
}

std::unique_ptr<Request> MpiCommunicator::exchange(std::span<const Message> sends,
                                                   std::span<const Message> receives, int tag) {
  REQUIRE(tag >= 0 && tag <= kMaxTag, "tag {}", tag);
  auto request = std::make_unique<MpiRequest>();
  // Receives first, so that no message arrives without a place. MPI keeps the order of a pair
  // under one tag, and both sides cut alike.
  for (const auto& [peer, data] : receives)
    for_pieces(data.size(), max_count_, [&, peer = peer](std::size_t offset, int count) {
      MPI_Request part = MPI_REQUEST_NULL;
      CHECK_MPI(MPI_Irecv(data.data() + offset, count, MPI_FLOAT, peer, tag, handle_, &part));
      request->add_receive(part);
    });
  for (const auto& [peer, data] : sends)
    for_pieces(data.size(), max_count_, [&, peer = peer](std::size_t offset, int count) {
      MPI_Request part = MPI_REQUEST_NULL;
      CHECK_MPI(MPI_Isend(data.data() + offset, count, MPI_FLOAT, peer, tag, handle_, &part));
      request->add(part);
    });
  return request;
}

std::unique_ptr<Request> MpiCommunicator::reduce_scatter(std::span<float> whole) {
  const std::span<float> own = shard(whole);
  if (whole.size() > INT_MAX)
    fail(ExitCode::kConfig,
         "reduction: fast moves at most {} floats a bucket over MPI, here {}; use reduction: exact",
         INT_MAX, whole.size());
  auto request = std::make_unique<MpiRequest>();
  MPI_Request part = MPI_REQUEST_NULL;
  CHECK_MPI(MPI_Ireduce_scatter_block(MPI_IN_PLACE, whole.data(), static_cast<int>(own.size()),
                                      MPI_FLOAT, MPI_SUM, handle_, &part));
  request->add(part);
  request->move_when_done(whole.first(own.size()), own);
  return request;
}

std::unique_ptr<Request> MpiCommunicator::all_gather(std::span<float> whole) {
  const std::span<float> own = shard(whole);
  auto request = std::make_unique<MpiRequest>();
  MPI_Request part = MPI_REQUEST_NULL;
  if (whole.size() > INT_MAX)
    fail(ExitCode::kConfig, "a bucket of {} floats is too large for MPI ({}); use more buckets",
         whole.size(), INT_MAX);
  CHECK_MPI(MPI_Iallgather(MPI_IN_PLACE, 0, MPI_FLOAT, whole.data(), static_cast<int>(own.size()),
                           MPI_FLOAT, handle_, &part));
  request->add(part);
  return request;
}

void initialize(int* argc, char*** argv) {
  int provided = MPI_THREAD_SINGLE;
  CHECK_MPI(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided));
  if (provided < MPI_THREAD_MULTIPLE)
    fail(ExitCode::kSystemLimit,
         "this MPI library has no MPI_THREAD_MULTIPLE, which the heartbeat needs; use another");
}

class WorldCommunicator final : public MpiCommunicator {
 public:
  explicit WorldCommunicator(std::size_t max_count) : MpiCommunicator(MPI_COMM_WORLD, max_count) {}
  // MPI_Finalize waits for every rank. One that leaves with an exception must not: it ends without,
  // which tells the launcher to end the job.
  ~WorldCommunicator() override {
    if (std::uncaught_exceptions() == 0) MPI_Finalize();
  }
};

}  // namespace

std::unique_ptr<Communicator> mpi_communicator(int* argc, char*** argv, std::size_t max_count) {
  initialize(argc, argv);
  return std::make_unique<WorldCommunicator>(max_count);
}

// Without a launcher there is no MPI: as a singleton Open MPI 4.1 takes 0.29 s, needs orted on the
// PATH and opens 5 listening sockets.
std::unique_ptr<Communicator> launch_communicator(int* argc, char*** argv) {
  const Launcher launcher =
      launcher_from_environment([](const char* name) { return std::getenv(name); });
  if (!launcher.serves_mpi) {
    require_same_size(launcher, 1);
    return single_communicator();
  }
  auto world = mpi_communicator(argc, argv);
  try {
    require_same_size(launcher, world->size());
  } catch (const Error&) {
    // A world of one: nobody to wait for.
    world.reset();
    throw;
  }
  return world;
}

}  // namespace comm
