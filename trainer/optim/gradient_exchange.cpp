#include "trainer/optim/gradient_exchange.h"

#include <algorithm>
#include <cstring>

#include "comm/parallel.h"

namespace trainer {
namespace {

constexpr std::int64_t kSweep = 16384;

comm::Buffer floats(comm::Device device, std::int64_t count) {
  return comm::Buffer(device, static_cast<std::size_t>(count) * sizeof(float), comm::Fill::kZero);
}

struct Add {
  float* to;
  const float* from;
  RIDGELINE_HD void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t i = begin; i < end; ++i) to[i] += from[i];
  }
};

}  // namespace

GradientExchange::GradientExchange(models::ParameterStorage& storage,
                                   comm::Communicator& communicator, comm::StreamView stream,
                                   std::int64_t num_micro_batches, bool exact)
    : storage_(storage),
      layout_(*storage.layout),
      communicator_(communicator),
      stream_(stream),
      num_micro_batches_(num_micro_batches),
      exact_(exact),
      range_(micro_batches_of(num_micro_batches, communicator.rank(), communicator.size())) {
  REQUIRE(range_.count() > 0, "rank {} of {} has none of {} micro-batches", communicator.rank(),
          communicator.size(), num_micro_batches);
  const comm::Device device = stream.device();
  for (int i = 0; i < waiting_nodes(num_micro_batches, range_); ++i) {
    waiting_.push_back(floats(device, layout_.gradient_elements));
  }
  std::int64_t num_received = 0;
  for (int r = 0; r < communicator.size(); ++r) {
    nodes_of_rank_.push_back(subtrees_of(
        num_micro_batches, micro_batches_of(num_micro_batches, r, communicator.size())));
    if (r != communicator.rank()) num_received += std::ssize(nodes_of_rank_.back());
  }
  for (std::size_t k = 0; k < layout_.buckets.size(); ++k) {
    Pending pending{TreeStack(num_micro_batches)};
    const std::int64_t size = shard_size(static_cast<int>(k), communicator.rank());
    if (exact && size > 0) pending.received = floats(device, num_received * size);
    pending_.push_back(std::move(pending));
  }
}

std::int64_t GradientExchange::shard_size(int bucket, int rank) const {
  const models::Bucket& b = layout_.buckets[bucket];
  return std::clamp<std::int64_t>(b.size - rank * b.shard_elements, 0, b.shard_elements);
}

std::span<float> GradientExchange::shard_of(const comm::Buffer& whole, int bucket) const {
  const models::Bucket& b = layout_.buckets[bucket];
  const int rank = communicator_.rank();
  return {whole.as<float>().data() + b.offset + rank * b.shard_elements,
          static_cast<std::size_t>(shard_size(bucket, rank))};
}

void GradientExchange::merge(float* to, const float* from, std::int64_t count) const {
  comm::parallel_for_blocks(stream_, count, kSweep, Add{to, from});
}

void GradientExchange::begin_step() {
  for (Pending& pending : pending_) {
    pending.stack.clear();
    pending.where.clear();
    pending.taken = 0;
  }
}

void GradientExchange::take(int bucket, bool launches) {
  Pending& pending = pending_[bucket];
  REQUIRE(pending.taken < range_.count(), "bucket {} was taken {} times", bucket, pending.taken);
  const models::Bucket& b = layout_.buckets[bucket];
  pending.where.push_back(storage_.gradients.as<float>().data() + b.offset);
  pending.stack.push({0, range_.begin + pending.taken}, [&](std::size_t left, std::size_t right) {
    if (launches) merge(pending.where[left], pending.where[right], b.size);
    pending.where.pop_back();
  });
  ++pending.taken;
  if (pending.taken < range_.count()) return keep(pending, bucket, launches);
  if (communicator_.size() == 1) return;
  if (exact_) {
    start_exact(pending, bucket);
  } else {
    start_fast(pending, bucket);
  }
}

// The engine overwrites its gradients with the next micro-batch: what must wait moves away.
void GradientExchange::keep(Pending& pending, int bucket, bool launches) {
  const models::Bucket& b = layout_.buckets[bucket];
  float* engine = storage_.gradients.as<float>().data() + b.offset;
  if (pending.where.back() != engine) return;
  float* to = waiting_[pending.where.size() - 1].as<float>().data() + b.offset;
  const auto bytes = static_cast<std::size_t>(b.size) * sizeof(float);
  pending.where.back() = to;
  if (!launches) return;
  comm::copy_bytes(stream_, {reinterpret_cast<std::byte*>(to), bytes},
                   {reinterpret_cast<const std::byte*>(engine), bytes});
}

void GradientExchange::start_exact(Pending& pending, int bucket) {
  const models::Bucket& b = layout_.buckets[bucket];
  const int me = communicator_.rank();
  std::vector<comm::Message> sends, receives;
  float* next = pending.received.as<float>().data();
  const auto mine = static_cast<std::size_t>(shard_size(bucket, me));
  for (int peer = 0; peer < communicator_.size(); ++peer) {
    const auto theirs = static_cast<std::size_t>(shard_size(bucket, peer));
    if (peer == me) continue;
    for (float* node : pending.where) {
      if (theirs > 0) sends.push_back({peer, {node + peer * b.shard_elements, theirs}});
    }
    for (std::size_t n = 0; n < nodes_of_rank_[peer].size() && mine > 0; ++n, next += mine) {
      receives.push_back({peer, {next, mine}});
    }
  }
  pending.request = communicator_.exchange(sends, receives, bucket);
}

void GradientExchange::start_fast(Pending& pending, int bucket) {
  const models::Bucket& b = layout_.buckets[bucket];
  for (std::size_t n = 1; n < pending.where.size(); ++n) {
    merge(pending.where[0], pending.where[n], b.size);
  }
  const auto whole = static_cast<std::size_t>(b.shard_elements * communicator_.size());
  pending.request = communicator_.reduce_scatter({pending.where[0], whole});
}

bool GradientExchange::ready(int bucket) {
  Pending& pending = pending_[bucket];
  if (pending.taken < range_.count()) return false;
  return !pending.request || pending.request->test();
}

bool GradientExchange::all_started() const {
  return std::all_of(pending_.begin(), pending_.end(),
                     [&](const Pending& pending) { return pending.taken == range_.count(); });
}

std::span<const float> GradientExchange::reduced(int bucket) {
  Pending& pending = pending_[bucket];
  REQUIRE(pending.taken == range_.count(), "bucket {} is not complete", bucket);
  if (pending.request) {
    pending.request->wait();
    pending.request.reset();
  }
  const models::Bucket& b = layout_.buckets[bucket];
  const int me = communicator_.rank();
  if (communicator_.size() > 1 && exact_) return finish_tree(pending, bucket);
  return {pending.where[0] + me * b.shard_elements,
          static_cast<std::size_t>(shard_size(bucket, me))};
}

std::span<const float> GradientExchange::finish_tree(Pending& pending, int bucket) {
  const models::Bucket& b = layout_.buckets[bucket];
  const int me = communicator_.rank();
  const std::int64_t size = shard_size(bucket, me);
  if (size == 0) return {};
  TreeStack stack(num_micro_batches_);
  std::vector<float*> where;
  float* next = pending.received.as<float>().data();
  for (int r = 0; r < communicator_.size(); ++r) {
    for (std::size_t n = 0; n < nodes_of_rank_[r].size(); ++n) {
      if (r == me) {
        where.push_back(pending.where[n] + me * b.shard_elements);
      } else {
        where.push_back(next);
        next += size;
      }
      stack.push(nodes_of_rank_[r][n], [&](std::size_t left, std::size_t right) {
        merge(where[left], where[right], size);
        where.pop_back();
      });
    }
  }
  REQUIRE(where.size() == 1, "the tree has {} roots", where.size());
  return {where[0], static_cast<std::size_t>(size)};
}

}  // namespace trainer
