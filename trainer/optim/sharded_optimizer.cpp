#include "trainer/optim/sharded_optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace trainer {
namespace {

using models::kBlockElements;

comm::Buffer floats(comm::Device device, std::int64_t count) {
  return comm::Buffer(device, static_cast<std::size_t>(count) * sizeof(float), comm::Fill::kZero);
}

}  // namespace

std::vector<std::string> state_names(const OptimizerConfig& rule) {
  switch (rule.name) {
    case OptimizerName::kSgd:
    case OptimizerName::kLars:
      return rule.momentum > 0 ? std::vector<std::string>{"momentum"} : std::vector<std::string>{};
    case OptimizerName::kAdam:
    case OptimizerName::kAdamw:
      return {"exp_avg", "exp_avg_sq"};
    case OptimizerName::kAdagrad:
      return {"sum"};
    case OptimizerName::kRmsprop:
      return rule.momentum > 0 ? std::vector<std::string>{"square_avg", "momentum"}
                               : std::vector<std::string>{"square_avg"};
  }
  return {};
}

ShardedOptimizer::ShardedOptimizer(models::ParameterStorage& storage,
                                   comm::Communicator& communicator, comm::StreamView stream,
                                   const OptimizerSetup& setup)
    : storage_(storage),
      layout_(*storage.layout),
      communicator_(communicator),
      stream_(stream),
      setup_(setup),
      exchange_(storage, communicator, stream, setup.num_micro_batches, setup.exact),
      ledger_(make_ledger(*storage.layout, setup.regularization)),
      segments_(ledger_.size()) {
  make_segments();
  const comm::Device device = stream.device();
  const std::size_t num_states = state_names(setup.rule).size();
  // LARS keeps momentum even where it is zero: its update is the momentum's.
  if (num_states > 0 || setup.rule.name == OptimizerName::kLars) {
    state1_ = floats(device, state_elements_);
  }
  if (num_states > 1) state2_ = floats(device, state_elements_);
  if (has_ema()) ema_ = floats(device, state_elements_);
}

ShardedOptimizer::~ShardedOptimizer() {
  for (BucketState& bucket : buckets_) {
    if (!bucket.gather) continue;
    try {
      bucket.gather->wait();
    } catch (const comm::Error&) {  // a destructor has nobody to tell; the run has ended
    }
  }
}

void ShardedOptimizer::make_segments() {
  for (std::size_t k = 0; k < layout_.buckets.size(); ++k) {
    const models::Bucket& b = layout_.buckets[k];
    const std::int64_t first = communicator_.rank() * b.shard_elements;
    const std::int64_t size = std::clamp<std::int64_t>(b.size - first, 0, b.shard_elements);
    BucketState bucket;
    bucket.segment_of_block.resize(static_cast<std::size_t>(size / kBlockElements), -1);
    bucket.sums.resize(bucket.segment_of_block.size());
    bucket.state_offset = state_elements_;
    state_elements_ += size;
    for (std::size_t s = 0; s < layout_.slots.size(); ++s) {
      const models::ParameterSlot& slot = layout_.slots[s];
      if (slot.bucket != static_cast<int>(k)) continue;
      const std::int64_t begin = slot.begin - b.begin;
      for (std::int64_t e = begin; e < begin + slot.size; e += kBlockElements) {
        if (e < first || e >= first + size) continue;
        bucket.segment_of_block[(e - first) / kBlockElements] = static_cast<std::int32_t>(s);
      }
    }
    buckets_.push_back(std::move(bucket));
  }
}

void ShardedOptimizer::fill_segments() {
  for (std::size_t s = 0; s < segments_.size(); ++s) {
    const LedgerEntry& entry = ledger_[s];
    Segment& segment = segments_[s];
    segment = {};
    segment.statistic = entry.parameter.kind == models::ParameterKind::kStatistic;
    const double lr = values_.lr * entry.lr_scale;
    const double c = entry.gradient * values_.lambda_factor;
    segment.lr = static_cast<float>(lr);
    segment.soft_threshold = static_cast<float>(entry.l1 * values_.lambda_factor);
    switch (entry.mode) {
      case DecayMode::kLoss:
        segment.loss_decay = static_cast<float>(c);
        break;
      case DecayMode::kCoupled:
        segment.coupled_decay = static_cast<float>(c);
        break;
      case DecayMode::kDecoupled:
        segment.decoupled_decay =
            static_cast<float>(c * (setup_.regularization.decay_scale == DecayScale::kLr
                                        ? lr
                                        : values_.lr_factor * entry.lr_scale));
        break;
    }
  }
}

void ShardedOptimizer::begin_step(const StepValues& values) {
  exchange_.begin_step();
  values_ = values;
  fill_segments();
  clip_ = 1;
  grad_norm_ = -1;
  next_ = 0;
  non_finite_ = false;
  for (BucketState& bucket : buckets_) bucket.reduced = false;
}

void ShardedOptimizer::bucket_ready(int bucket) {
  exchange_.take(bucket);
  progress();
}

// Global-norm clipping may update nothing before every gradient is known.
bool ShardedOptimizer::gate_open() {
  if (setup_.clip.norm <= 0 || grad_norm_ >= 0) return true;
  for (std::size_t k = 0; k < buckets_.size(); ++k) {
    if (!buckets_[k].reduced && !exchange_.ready(static_cast<int>(k))) return false;
  }
  return true;
}

void ShardedOptimizer::progress() {
  for (BucketState& bucket : buckets_) {
    if (!bucket.gather) continue;
    if (!bucket.gather->test()) break;
    bucket.gather.reset();
  }
  // Collectives inside an update would have to start at the same moment on every rank.
  const bool needs_collective = setup_.clip.norm > 0 || setup_.rule.name == OptimizerName::kLars;
  if (needs_collective && communicator_.size() > 1) return;
  // Fast reductions are collectives too, and when one is complete differs from rank to rank:
  // gathers start behind the last of them.
  if (!setup_.exact && communicator_.size() > 1 && !exchange_.all_started()) return;
  while (next_ < std::ssize(buckets_) && exchange_.ready(next_) && gate_open()) advance(next_);
}

void ShardedOptimizer::finish_updates() {
  while (next_ < std::ssize(buckets_)) advance(next_);
}

void ShardedOptimizer::advance(int bucket) {
  if (setup_.clip.norm > 0 && grad_norm_ < 0) clip();
  BucketState& state = buckets_[bucket];
  bucket_needed(bucket);  // of the last step: a rank without its samples ran no forward pass
  if (!state.reduced) {
    state.gradient = exchange_.reduced(bucket);
    state.reduced = true;
  }
  if (setup_.rule.name == OptimizerName::kLars) set_trust(bucket);
  update(bucket);
  const models::Bucket& b = layout_.buckets[bucket];
  stream_.synchronize();
  if (communicator_.size() > 1) {
    state.gather = communicator_.all_gather(storage_.parameters.as<float>(
        static_cast<std::size_t>(b.offset) * sizeof(float),
        static_cast<std::size_t>(b.shard_elements * communicator_.size())));
  }
  ++next_;
}

ShardView ShardedOptimizer::shard(int bucket) {
  BucketState& state = buckets_[bucket];
  const auto at = [&](const comm::Buffer& buffer) {
    return buffer.size_bytes() > 0 ? buffer.as<float>().data() + state.state_offset : nullptr;
  };
  return {exchange_.shard_of(storage_.parameters, bucket),
          state.gradient,
          at(state1_),
          at(state2_),
          at(ema_),
          state.segment_of_block.data()};
}

void ShardedOptimizer::update(int bucket) {
  const UpdateScalars scalars{setup_.rule, 1.0f / static_cast<float>(setup_.num_micro_batches),
                              clip_, values_.step, static_cast<float>(setup_.ema.decay),
                              values_.report};
  BucketState& state = buckets_[bucket];
  update_shard(stream_, shard(bucket), segments_, scalars, state.sums);
  for (const BlockSums& sums : state.sums) {
    non_finite_ |= !std::isfinite(sums.gradient) || !std::isfinite(sums.update);
  }
}

void ShardedOptimizer::clip() {
  for (int k = 0; k < std::ssize(buckets_); ++k) {
    bucket_needed(k);
    buckets_[k].gradient = exchange_.reduced(k);
    buckets_[k].reduced = true;
    shard_norms(stream_, shard(k), segments_, 1.0f / static_cast<float>(setup_.num_micro_batches),
                buckets_[k].sums);
  }
  double sum = 0;
  for (const BlockSums& tensor : tensor_sums(0, static_cast<int>(buckets_.size()))) {
    sum += tensor.gradient;
  }
  grad_norm_ = std::sqrt(sum);
  non_finite_ |= !std::isfinite(grad_norm_);
  // torch.nn.utils.clip_grad_norm_: factor max_norm / (norm + 1e-6), at most 1
  clip_ = static_cast<float>(std::min(1.0, setup_.clip.norm / (grad_norm_ + 1e-6)));
}

// trust = eta |w| / (|g| + c |w|) for weights; biases and norms keep the plain rate.
void ShardedOptimizer::set_trust(int bucket) {
  BucketState& state = buckets_[bucket];
  shard_norms(stream_, shard(bucket), segments_,
              1.0f / static_cast<float>(setup_.num_micro_batches), state.sums);
  const std::vector<BlockSums> sums = tensor_sums(bucket, 1);
  for (std::size_t s = 0; s < segments_.size(); ++s) {
    if (layout_.slots[s].bucket != bucket ||
        ledger_[s].parameter.kind != models::ParameterKind::kWeight) {
      continue;
    }
    const double w = std::sqrt(sums[s].weight), g = std::sqrt(sums[s].gradient) * clip_;
    const double denominator = g + segments_[s].coupled_decay * w;
    segments_[s].trust =
        w > 0 && denominator > 0
            ? static_cast<float>(setup_.rule.trust * w / (denominator + setup_.rule.eps))
            : 1.0f;
  }
}

// Sums per slot of the layout over all ranks, added in block order.
std::vector<BlockSums> ShardedOptimizer::tensor_sums(int first_bucket, int num_buckets) {
  std::string mine;
  for (int k = first_bucket; k < first_bucket + num_buckets; ++k) {
    const auto& sums = buckets_[k].sums;
    mine.append(reinterpret_cast<const char*>(sums.data()), sums.size() * sizeof(BlockSums));
  }
  const std::vector<std::string> all = communicator_.all_gather(mine);
  std::vector<BlockSums> tensors(layout_.slots.size());
  std::vector<std::size_t> read(all.size(), 0);
  for (int k = first_bucket; k < first_bucket + num_buckets; ++k) {
    const models::Bucket& b = layout_.buckets[k];
    std::size_t slot = 0;
    for (std::int64_t e = 0; e < b.size; e += kBlockElements) {
      const auto rank = static_cast<std::size_t>(e / b.shard_elements);
      BlockSums sums;
      std::memcpy(&sums, all[rank].data() + read[rank], sizeof(sums));
      read[rank] += sizeof(sums);
      while (layout_.slots[slot].bucket != k ||
             b.begin + e >= layout_.slots[slot].begin + layout_.slots[slot].size) {
        ++slot;
      }
      tensors[slot].gradient += sums.gradient;
      tensors[slot].weight += sums.weight;
      tensors[slot].update += sums.update;
      tensors[slot].zeros += sums.zeros;
    }
  }
  return tensors;
}

OptimizerReport ShardedOptimizer::report() {
  const std::vector<BlockSums> sums = tensor_sums(0, static_cast<int>(buckets_.size()));
  OptimizerReport report;
  struct Group {
    double weight = 0, update = 0, zeros = 0, size = 0, penalty = 0;
  };
  std::map<std::string, Group> groups;
  double gradient = 0;
  for (std::size_t s = 0; s < sums.size(); ++s) {
    const LedgerEntry& entry = ledger_[s];
    if (!entry.trained || segments_[s].statistic) continue;
    Group& group = groups[entry.group];
    const double size = static_cast<double>(layout_.slots[s].size);
    // Elements past the tensor's end in its last block are zero and no weights.
    const double padding = std::ceil(size / kBlockElements) * kBlockElements - size;
    gradient += sums[s].gradient;
    group.weight += sums[s].weight;
    group.update += sums[s].update;
    group.zeros += sums[s].zeros - padding;
    group.size += size;
    const double penalty = 0.5 * entry.gradient * values_.lambda_factor * sums[s].weight;
    group.penalty += penalty;
    if (entry.mode == DecayMode::kLoss) report.loss_penalty += penalty;
  }
  report.grad_norm = grad_norm_ >= 0 ? grad_norm_ : std::sqrt(gradient);
  for (const auto& [name, g] : groups) {
    report.l2_penalty += g.penalty;
    report.groups.push_back({name, g.penalty, std::sqrt(g.weight),
                             g.weight > 0 ? std::sqrt(g.update / g.weight) : 0.0,
                             g.size > 0 ? g.zeros / g.size : 0.0});
  }
  return report;
}

void ShardedOptimizer::bucket_needed(int bucket) {
  BucketState& state = buckets_[bucket];
  if (!state.gather) return;
  state.gather->wait();
  state.gather.reset();
}

void ShardedOptimizer::finish() {
  for (int k = 0; k < std::ssize(buckets_); ++k) bucket_needed(k);
}

std::int64_t ShardedOptimizer::state_bytes() const {
  return static_cast<std::int64_t>(state1_.size_bytes() + state2_.size_bytes() + ema_.size_bytes());
}

std::vector<std::pair<std::string, float*>> ShardedOptimizer::states() const {
  std::vector<std::pair<std::string, float*>> named;
  const std::vector<std::string> names = state_names(setup_.rule);
  if (!names.empty()) named.emplace_back(names[0], state1_.as<float>().data());
  if (names.size() > 1) named.emplace_back(names[1], state2_.as<float>().data());
  if (has_ema()) named.emplace_back("ema", ema_.as<float>().data());
  return named;
}

void ShardedOptimizer::visit_state(const std::string& name, float* state,
                                   const StateVisitor& visit) {
  for (const models::ParameterSlot& slot : layout_.slots) {
    if (slot.bucket < 0) continue;
    if (slot.parameter.kind == models::ParameterKind::kStatistic && name != "ema") continue;
    const models::Bucket& b = layout_.buckets[slot.bucket];
    const BucketState& bucket = buckets_[slot.bucket];
    const std::int64_t first = b.begin + communicator_.rank() * b.shard_elements;
    const std::int64_t last = first + std::ssize(bucket.segment_of_block) * kBlockElements;
    const std::int64_t begin = std::max(slot.begin, first);
    const std::int64_t end = std::min(slot.begin + slot.size, last);
    if (begin >= end) continue;
    visit(name, slot.parameter.name, begin - slot.begin, end - slot.begin,
          {state + bucket.state_offset + begin - first, static_cast<std::size_t>(end - begin)});
  }
}

void ShardedOptimizer::for_each_state(const StateVisitor& visit) {
  for (const auto& [name, state] : states()) visit_state(name, state, visit);
}

void ShardedOptimizer::start_ema() {
  if (!has_ema()) return;
  for (int k = 0; k < std::ssize(buckets_); ++k) {
    const std::span<float> from = exchange_.shard_of(storage_.parameters, k);
    std::copy(from.begin(), from.end(), ema_.as<float>().data() + buckets_[k].state_offset);
  }
}

void ShardedOptimizer::gather_ema(comm::Buffer& whole) {
  REQUIRE(has_ema(), "no averaged weights");
  std::copy(storage_.parameters.bytes().begin(), storage_.parameters.bytes().end(),
            whole.bytes().begin());
  for (int k = 0; k < std::ssize(buckets_); ++k) {
    const std::span<float> to = exchange_.shard_of(whole, k);
    const float* from = ema_.as<float>().data() + buckets_[k].state_offset;
    std::copy(from, from + to.size(), to.begin());
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
