// The optimizer's state as checkpoints, evaluations and checks see it.
#include <algorithm>

#include "trainer/optim/sharded_optimizer.h"

namespace trainer {

std::vector<ShardedOptimizer::State> ShardedOptimizer::states() {
  std::vector<State> named;
  const std::vector<std::string> names = state_names(setup_.rule);
  if (!names.empty()) named.push_back({names[0], &state1_, &host_state1_});
  if (names.size() > 1) named.push_back({names[1], &state2_, &host_state2_});
  if (has_ema()) named.push_back({"ema", &ema_, &host_ema_});
  return named;
}

void ShardedOptimizer::visit_state(const State& state, const StateVisitor& visit) {
  for (const models::ParameterSlot& slot : layout_.slots) {
    if (slot.bucket < 0) continue;
    if (slot.parameter.kind == models::ParameterKind::kStatistic && state.name != "ema") continue;
    const models::Bucket& b = layout_.buckets[slot.bucket];
    const BucketState& bucket = buckets_[slot.bucket];
    const std::int64_t first = b.begin + communicator_.rank() * b.shard_elements;
    const std::int64_t last = first + bucket.num_blocks * models::kBlockElements;
    const std::int64_t begin = std::max(slot.begin, first);
    const std::int64_t end = std::min(slot.begin + slot.size, last);
    if (begin >= end) continue;
    const std::span<float> values = state.host->as<float>().subspan(
        static_cast<std::size_t>(bucket.state_offset() + begin - first),
        static_cast<std::size_t>(end - begin));
    visit(state.name, slot.parameter.name, begin - slot.begin, end - slot.begin, values);
  }
}

void ShardedOptimizer::make_mirrors() {
  for (const State& state : states()) {
    if (state.host->bytes().empty()) *state.host = HostMirror(*state.values);
  }
}

void ShardedOptimizer::for_each_state(const StateVisitor& visit) {
  make_mirrors();
  const std::vector<State> named = states();
  for (const State& state : named) state.host->fetch(stream_);
  stream_.synchronize();
  for (const State& state : named) visit_state(state, visit);
}

void ShardedOptimizer::store_states() {
  for (const State& state : states()) state.host->store(stream_);
  stream_.synchronize();
}

void ShardedOptimizer::start_ema() {
  if (!has_ema()) return;
  for (int k = 0; k < std::ssize(buckets_); ++k) {
    const auto from = std::as_bytes(exchange_.shard_of(storage_.parameters, k));
    const auto at = static_cast<std::size_t>(buckets_[k].state_offset()) * sizeof(float);
    comm::copy_bytes(stream_, ema_.bytes().subspan(at, from.size()), from);
  }
}

void ShardedOptimizer::gather_ema(comm::Buffer& whole) {
  REQUIRE(has_ema(), "no averaged weights");
  comm::copy_bytes(stream_, whole.bytes(), storage_.parameters.bytes());
  for (int k = 0; k < std::ssize(buckets_); ++k) {
    const auto to = std::as_writable_bytes(exchange_.shard_of(whole, k));
    const auto at = static_cast<std::size_t>(buckets_[k].state_offset()) * sizeof(float);
    comm::copy_bytes(stream_, to, ema_.bytes().subspan(at, to.size()));
    const models::Bucket& b = layout_.buckets[k];
    if (communicator_.size() > 1) {
      communicator_
          .all_gather(
              whole.as<float>(static_cast<std::size_t>(b.offset) * sizeof(float),
                              static_cast<std::size_t>(b.shard_elements * communicator_.size())))
          ->wait();
    }
  }
}

}  // namespace trainer
