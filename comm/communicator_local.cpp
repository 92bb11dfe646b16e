#include "comm/communicator_local.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "comm/device.h"
#include "comm/reduction.h"

namespace comm {
namespace {

// Shared by all groups of one run, so that the loss of a rank wakes every wait.
struct Job {
  std::mutex mutex;
  std::condition_variable changed;
  std::string lost;  // why the job ended; empty while it lives

  void lose(const std::string& reason) {
    const std::lock_guard lock(mutex);
    if (lost.empty()) lost = reason;
    changed.notify_all();
  }
};

// One direction between two ranks under one tag. Invariant: messages[k] is the k-th one sent, kept
// until the k-th receive takes it.
struct Channel {
  std::uint64_t num_sent = 0;
  std::uint64_t num_posted = 0;
  std::map<std::uint64_t, std::vector<float>> messages;
};

struct ChannelKey {
  int from, to;
  std::int64_t tag;
  auto operator<=>(const ChannelKey&) const = default;
};

// The members of one communicator. Guarded by job->mutex.
struct Group {
  Group(std::shared_ptr<Job> owner, int size) : job(std::move(owner)), members(size) {}

  struct Member {
    bool left = false;
    std::optional<std::string> bytes;  // its part of the gather under way
  };
  using Gathered = std::shared_ptr<const std::vector<std::string>>;

  std::shared_ptr<Job> job;
  std::vector<Member> members;
  std::uint64_t num_gathers = 0;
  Gathered gathered;  // of the last complete gather
  std::map<ChannelKey, Channel> channels;
  std::map<std::pair<std::uint64_t, int>, std::weak_ptr<Group>> splits;  // by gather and color

  int size() const { return static_cast<int>(members.size()); }

  void require_alive(int peer) const {
    if (!job->lost.empty()) fail(ExitCode::kPeerLost, "{}", job->lost);
    if (members[static_cast<std::size_t>(peer)].left)
      fail(ExitCode::kPeerLost, "rank {} of {} has left", peer, size());
  }
};

struct Receive {
  int peer;
  std::int64_t tag;
  std::uint64_t number;
  std::span<float> to;
};

// Receives in flight; `finish` runs once, after the last.
class LocalRequest final : public Request {
 public:
  LocalRequest(std::shared_ptr<Group> group, int rank, std::vector<Receive> receives)
      : group_(std::move(group)), rank_(rank), receives_(std::move(receives)) {}

  bool test() override {
    const std::lock_guard lock(group_->job->mutex);
    return progress();
  }
  void wait() override {
    std::unique_lock lock(group_->job->mutex);
    group_->job->changed.wait(lock, [this] { return progress(); });
  }

 private:
  bool progress() {
    std::erase_if(receives_, [this](const Receive& receive) { return take(receive); });
    for (const Receive& receive : receives_) group_->require_alive(receive.peer);
    return receives_.empty();
  }
  bool take(const Receive& receive) {
    auto& messages = group_->channels[{receive.peer, rank_, receive.tag}].messages;
    const auto message = messages.find(receive.number);
    if (message == messages.end()) return false;
    REQUIRE(message->second.size() == receive.to.size(), "{} floats sent, {} expected",
            message->second.size(), receive.to.size());
    std::ranges::copy(message->second, receive.to.begin());
    messages.erase(message);
    return true;
  }

  std::shared_ptr<Group> group_;
  int rank_;
  std::vector<Receive> receives_;
};

// Sum of the shards of all ranks, in rank order, once they are here.
class SumRequest final : public Request {
 public:
  SumRequest(std::unique_ptr<Request> receives, std::vector<float> shards, std::span<float> own)
      : receives_(std::move(receives)), shards_(std::move(shards)), own_(own) {}

  bool test() override {
    if (!receives_->test()) return false;
    add();
    return true;
  }
  void wait() override {
    receives_->wait();
    add();
  }

 private:
  void add() {
    if (shards_.empty()) return;
    std::copy_n(shards_.begin(), own_.size(), own_.begin());
    for (std::size_t i = own_.size(); i < shards_.size(); ++i) own_[i % own_.size()] += shards_[i];
    shards_.clear();
  }

  std::unique_ptr<Request> receives_;
  std::vector<float> shards_;  // (size, shard)
  std::span<float> own_;
};

class LocalCommunicator : public Communicator {
 public:
  LocalCommunicator(std::shared_ptr<Group> group, int rank)
      : group_(std::move(group)), rank_(rank) {}
  ~LocalCommunicator() override {
    const std::lock_guard lock(group_->job->mutex);
    group_->members[static_cast<std::size_t>(rank_)].left = true;
    group_->job->changed.notify_all();
  }

  int rank() const override { return rank_; }
  int size() const override { return group_->size(); }
  std::string host(int) const override { return host_name(); }

  void barrier() override { gather(""); }
  void broadcast(std::span<std::byte> bytes, int root) override {
    REQUIRE(root >= 0 && root < size(), "root {}", root);
    const auto all = gather(rank_ == root ? to_string(bytes) : "");
    const std::string& sent = (*all)[static_cast<std::size_t>(root)];
    REQUIRE(sent.size() == bytes.size(), "{} bytes sent, {} expected", sent.size(), bytes.size());
    if (!bytes.empty()) std::memcpy(bytes.data(), sent.data(), sent.size());
  }
  void all_reduce(std::span<double> values, Reduction reduction) override {
    reduce(values, reduction);
  }
  void all_reduce(std::span<std::int64_t> values, Reduction reduction) override {
    reduce(values, reduction);
  }
  std::vector<std::string> all_gather(const std::string& bytes) override { return *gather(bytes); }

  std::unique_ptr<Request> exchange(std::span<const Message> sends,
                                    std::span<const Message> receives, int tag) override {
    REQUIRE(tag >= 0, "tag {}", tag);
    return start(sends, receives, tag);
  }
  std::unique_ptr<Request> reduce_scatter(std::span<float> whole) override;
  std::unique_ptr<Request> all_gather(std::span<float> whole) override;

  std::unique_ptr<Communicator> split(int color) override;

  [[noreturn]] void abort(ExitCode code) override {
    group_->job->lose(fmt::format("rank {} of {} aborted the run", rank_, size()));
    fail(code, "rank {} of {} aborted the run", rank_, size());
  }

 private:
  static std::string to_string(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  std::span<float> shard(std::span<float> whole, int index) const {
    REQUIRE(whole.size() % group_->members.size() == 0, "{} floats, {} ranks", whole.size(),
            size());
    const std::size_t count = whole.size() / group_->members.size();
    return whole.subspan(static_cast<std::size_t>(index) * count, count);
  }

  Group::Gathered gather(const std::string& bytes);
  std::unique_ptr<Request> start(std::span<const Message> sends, std::span<const Message> receives,
                                 std::int64_t tag);
  template <typename T>
  void reduce(std::span<T> values, Reduction reduction) {
    const auto all = gather(to_string(std::as_bytes(values)));
    std::vector<T> gathered;
    for (const std::string& part : *all) {
      REQUIRE(part.size() == values.size_bytes(), "another count on another rank");
      const auto begin = gathered.size();
      gathered.resize(begin + values.size());
      if (!part.empty()) std::memcpy(gathered.data() + begin, part.data(), part.size());
    }
    reduce_in_order<T>(gathered, reduction, values);
  }

  std::shared_ptr<Group> group_;
  int rank_;
  std::int64_t num_bulk_ = 0;  // bulk collectives so far; they use the tags below zero
};

Group::Gathered LocalCommunicator::gather(const std::string& bytes) {
  std::unique_lock lock(group_->job->mutex);
  const std::uint64_t number = group_->num_gathers;
  group_->members[static_cast<std::size_t>(rank_)].bytes = bytes;
  const auto missing = [](const Group::Member& member) { return !member.bytes; };
  if (std::ranges::none_of(group_->members, missing)) {
    auto all = std::make_shared<std::vector<std::string>>();
    for (Group::Member& member : group_->members) {
      all->push_back(std::move(*member.bytes));
      member.bytes.reset();
    }
    group_->gathered = std::move(all);
    ++group_->num_gathers;
    group_->job->changed.notify_all();
    return group_->gathered;
  }
  group_->job->changed.wait(lock, [&] {
    if (group_->num_gathers > number) return true;
    for (int peer = 0; peer < size(); ++peer)
      if (missing(group_->members[static_cast<std::size_t>(peer)])) group_->require_alive(peer);
    return false;
  });
  return group_->gathered;
}

std::unique_ptr<Request> LocalCommunicator::start(std::span<const Message> sends,
                                                  std::span<const Message> receives,
                                                  std::int64_t tag) {
  std::vector<Receive> pending;
  const std::lock_guard lock(group_->job->mutex);
  for (const Message& send : sends) {
    REQUIRE(send.peer >= 0 && send.peer < size(), "peer {}", send.peer);
    Channel& channel = group_->channels[{rank_, send.peer, tag}];
    channel.messages.emplace(channel.num_sent++,
                             std::vector<float>(send.data.begin(), send.data.end()));
  }
  for (const Message& receive : receives) {
    REQUIRE(receive.peer >= 0 && receive.peer < size(), "peer {}", receive.peer);
    Channel& channel = group_->channels[{receive.peer, rank_, tag}];
    pending.push_back({receive.peer, tag, channel.num_posted++, receive.data});
  }
  group_->job->changed.notify_all();
  return std::make_unique<LocalRequest>(group_, rank_, std::move(pending));
}

std::unique_ptr<Request> LocalCommunicator::reduce_scatter(std::span<float> whole) {
  const std::span<float> own = shard(whole, rank_);
  std::vector<float> shards(whole.size());
  std::vector<Message> sends, receives;
  for (int peer = 0; peer < size(); ++peer) {
    sends.push_back({peer, shard(whole, peer)});
    receives.push_back({peer, shard(shards, peer)});
  }
  auto request = start(sends, receives, --num_bulk_);
  return std::make_unique<SumRequest>(std::move(request), std::move(shards), own);
}

std::unique_ptr<Request> LocalCommunicator::all_gather(std::span<float> whole) {
  std::vector<Message> sends, receives;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank_) continue;
    sends.push_back({peer, shard(whole, rank_)});
    receives.push_back({peer, shard(whole, peer)});
  }
  return start(sends, receives, --num_bulk_);
}

std::unique_ptr<Communicator> LocalCommunicator::split(int color) {
  const std::uint64_t number = group_->num_gathers;
  const auto colors = gather(std::to_string(color));
  int rank = 0, count = 0;
  for (int peer = 0; peer < size(); ++peer) {
    if ((*colors)[static_cast<std::size_t>(peer)] != std::to_string(color)) continue;
    if (peer < rank_) ++rank;
    ++count;
  }
  std::shared_ptr<Group> part;
  {
    const std::lock_guard lock(group_->job->mutex);
    std::weak_ptr<Group>& known = group_->splits[{number, color}];
    part = known.lock();
    if (!part) known = part = std::make_shared<Group>(group_->job, count);
  }
  // Nobody may leave before all hold the group, or a late rank would make another.
  barrier();
  return std::make_unique<LocalCommunicator>(std::move(part), rank);
}

// The only rank of a process without a launcher: its end is the end of the job.
class SingleCommunicator final : public LocalCommunicator {
 public:
  using LocalCommunicator::LocalCommunicator;
  [[noreturn]] void abort(ExitCode code) override { std::_Exit(static_cast<int>(code)); }
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> local_communicators(int size) {
  REQUIRE(size >= 1, "size {}", size);
  const auto group = std::make_shared<Group>(std::make_shared<Job>(), size);
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int rank = 0; rank < size; ++rank)
    ranks.push_back(std::make_unique<LocalCommunicator>(group, rank));
  return ranks;
}

std::unique_ptr<Communicator> single_communicator() {
  return std::make_unique<SingleCommunicator>(std::make_shared<Group>(std::make_shared<Job>(), 1),
                                              0);
}

void run_local(int size, const std::function<void(Communicator&)>& body) {
  auto ranks = local_communicators(size);
  std::mutex mutex;
  std::exception_ptr first, consequence;
  std::vector<std::thread> threads;
  for (auto& rank : ranks)
    threads.emplace_back([&, communicator = std::move(rank)]() mutable {
      try {
        body(*communicator);
      } catch (const Error& error) {
        const std::lock_guard lock(mutex);
        auto& place = error.code() == ExitCode::kPeerLost ? consequence : first;
        if (!place) place = std::current_exception();
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!first) first = std::current_exception();
      }
      communicator.reset();  // wakes the peers that wait for this rank
    });
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
  if (consequence) std::rethrow_exception(consequence);
}

}  // namespace comm
