#include "trainer/optim/sharded_optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace trainer {
namespace {

using models::kBlockElements;

template <typename T>
comm::Buffer zeros(comm::Device device, std::int64_t count) {
  return comm::Buffer(device, static_cast<std::size_t>(count) * sizeof(T), comm::Fill::kZero);
}

constexpr std::size_t kSegmentsAt = 64;  // bytes; behind the StepScalars
static_assert(sizeof(StepScalars) <= kSegmentsAt);

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
      segments_(ledger_.size()),
      step_(stream, kSegmentsAt + ledger_.size() * sizeof(Segment)) {
  allocate(make_segments());
}

void ShardedOptimizer::allocate(const std::vector<std::int32_t>& segment_of_block) {
  const comm::Device device = stream_.device();
  const std::int64_t num_elements = num_blocks_ * kBlockElements;
  const std::size_t num_states = state_names(setup_.rule).size();
  // LARS keeps momentum even where it is zero: its update is the momentum's.
  if (num_states > 0 || setup_.rule.name == OptimizerName::kLars) {
    state1_ = zeros<float>(device, num_elements);
  }
  if (num_states > 1) state2_ = zeros<float>(device, num_elements);
  if (has_ema()) ema_ = zeros<float>(device, num_elements);
  segment_of_block_ = zeros<std::int32_t>(device, num_blocks_);
  const HostMirror host_segments(segment_of_block_);
  std::ranges::copy(segment_of_block, host_segments.as<std::int32_t>().begin());
  host_segments.store(stream_);
  stream_.synchronize();
  sums_ = zeros<BlockSums>(device, num_blocks_);
  host_sums_ = HostMirror(sums_);
  if (setup_.clip.norm > 0 && can_be_recorded())
    norm_clip_ = NormClip(stream_, setup_.clip.norm, segment_of_block, segments_.size());
  if (stream_.on_cpu()) return;
  std::int64_t most = 0;
  for (const BucketState& bucket : buckets_) most = std::max(most, bucket.num_blocks);
  lanes_ = zeros<BlockSums>(device, most * kLanes);
  flag_ = zeros<std::int32_t>(device, 1);
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

// The slot of the layout of each block of this rank's shards.
std::vector<std::int32_t> ShardedOptimizer::make_segments() {
  std::vector<std::int32_t> segment_of_block;
  for (std::size_t k = 0; k < layout_.buckets.size(); ++k) {
    const models::Bucket& b = layout_.buckets[k];
    const std::int64_t first = communicator_.rank() * b.shard_elements;
    const std::int64_t size = std::clamp<std::int64_t>(b.size - first, 0, b.shard_elements);
    BucketState bucket;
    bucket.num_blocks = size / kBlockElements;
    bucket.first_block = num_blocks_;
    num_blocks_ += bucket.num_blocks;
    segment_of_block.resize(static_cast<std::size_t>(num_blocks_), -1);
    for (std::size_t s = 0; s < layout_.slots.size(); ++s) {
      const models::ParameterSlot& slot = layout_.slots[s];
      if (slot.bucket != static_cast<int>(k)) continue;
      const std::int64_t begin = slot.begin - b.begin;
      for (std::int64_t e = begin; e < begin + slot.size; e += kBlockElements) {
        if (e < first || e >= first + size) continue;
        segment_of_block[static_cast<std::size_t>(
            bucket.first_block + (e - first) / kBlockElements)] = static_cast<std::int32_t>(s);
      }
    }
    buckets_.push_back(std::move(bucket));
  }
  return segment_of_block;
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

// What the updates launched from here on read.
void ShardedOptimizer::send_step() {
  const StepScalars scalars = step_scalars(setup_.rule, values_.step, clip_);
  const std::span<std::byte> to = step_.next();
  std::memcpy(to.data(), &scalars, sizeof(scalars));
  std::memcpy(to.data() + kSegmentsAt, segments_.data(), segments_.size() * sizeof(Segment));
  step_.send();
}

void ShardedOptimizer::begin_step(const StepValues& values) {
  exchange_.begin_step();
  values_ = values;
  fill_segments();
  clip_ = 1;
  send_step();
  clipped_ = false;
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
  if (setup_.clip.norm <= 0 || clipped_) return true;
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
  // Fast reductions are collectives too, and on GPUs every verb is: when one is complete differs
  // from rank to rank, so gathers start behind the last of them.
  const bool in_order = !setup_.exact || !stream_.on_cpu();
  if (in_order && communicator_.size() > 1 && !exchange_.all_started()) return;
  while (next_ < std::ssize(buckets_) && exchange_.ready(next_) && gate_open()) advance(next_);
}

void ShardedOptimizer::finish_updates() {
  while (next_ < std::ssize(buckets_)) advance(next_);
}

bool ShardedOptimizer::can_be_recorded() const {
  return communicator_.size() == 1 && setup_.rule.name != OptimizerName::kLars;
}

void ShardedOptimizer::repeated() {
  for (int k = 0; k < std::ssize(buckets_); ++k) exchange_.taken_again(k);
  if (!exchange_.all_started()) return;
  for (BucketState& bucket : buckets_) bucket.reduced = true;
  clipped_ = true;
  next_ = static_cast<int>(std::ssize(buckets_));
}

void ShardedOptimizer::fetch_verdict(const comm::Buffer& verdict) const {
  if (stream_.on_cpu()) {
    verdict.as<std::int32_t>()[0] = non_finite_;
  } else {
    comm::copy_bytes(stream_, verdict.bytes(), flag_.bytes());
  }
}

void ShardedOptimizer::advance(int bucket) {
  if (setup_.clip.norm > 0 && !clipped_) clip();
  BucketState& state = buckets_[bucket];
  bucket_needed(bucket);  // of the last step: a rank without its samples ran no forward pass
  if (!state.reduced) {
    state.gradient = exchange_.reduced(bucket);
    state.reduced = true;
  }
  if (setup_.rule.name == OptimizerName::kLars) set_trust(bucket);
  update(bucket);
  const models::Bucket& b = layout_.buckets[bucket];
  if (communicator_.size() > 1) {
    state.gather = communicator_.all_gather(storage_.parameters.as<float>(
        static_cast<std::size_t>(b.offset) * sizeof(float),
        static_cast<std::size_t>(b.shard_elements * communicator_.size())));
  }
  ++next_;
}

ShardView ShardedOptimizer::shard(int bucket) {
  const BucketState& state = buckets_[bucket];
  const auto at = [&](const comm::Buffer& buffer) {
    return buffer.size_bytes() > 0 ? buffer.as<float>().data() + state.state_offset() : nullptr;
  };
  const comm::Buffer& step = step_.memory();
  return {exchange_.shard_of(storage_.parameters, bucket),
          state.gradient,
          at(state1_),
          at(state2_),
          at(ema_),
          segment_of_block_.as<std::int32_t>().data() + state.first_block,
          step.as<Segment>(kSegmentsAt, segments_.size()).data(),
          step.as<StepScalars>(0, 1).data()};
}

FoundView ShardedOptimizer::found(int bucket) {
  const BucketState& state = buckets_[bucket];
  const auto first = static_cast<std::size_t>(state.first_block);
  return {sums_.as<BlockSums>().subspan(first, static_cast<std::size_t>(state.num_blocks)),
          lanes_.as<BlockSums>(), flag_.as<std::int32_t>().data()};
}

UpdateScalars ShardedOptimizer::scalars() const {
  return {setup_.rule, 1.0f / static_cast<float>(setup_.num_micro_batches),
          static_cast<float>(setup_.ema.decay), values_.report};
}

void ShardedOptimizer::update(int bucket) {
  const FoundView found = this->found(bucket);
  update_shard(stream_, shard(bucket), scalars(), found);
  if (!stream_.on_cpu()) return;
  for (const BlockSums& sums : found.sums) {
    non_finite_ |= !std::isfinite(sums.gradient) || !std::isfinite(sums.update);
  }
}

void ShardedOptimizer::clip() {
  for (int k = 0; k < std::ssize(buckets_); ++k) {
    bucket_needed(k);
    buckets_[k].gradient = exchange_.reduced(k);
    buckets_[k].reduced = true;
    shard_norms(stream_, shard(k), scalars().gradient_scale, found(k));
  }
  clipped_ = true;
  if (!can_be_recorded()) return clip_over_ranks();
  norm_clip_.launch(stream_, sums_.as<BlockSums>(), step_.memory().as<StepScalars>(0, 1).data());
}

// As NormClip, where the host must know.
void ShardedOptimizer::clip_over_ranks() {
  double sum = 0;
  for (const BlockSums& tensor : tensor_sums(0, static_cast<int>(buckets_.size()))) {
    sum += tensor.gradient;
  }
  clip_ = clip_factor(setup_.clip.norm, sum);
  send_step();
}

// trust = eta |w| / (|g| + c |w|) for weights; biases and norms keep the plain rate.
void ShardedOptimizer::set_trust(int bucket) {
  shard_norms(stream_, shard(bucket), scalars().gradient_scale, found(bucket));
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
  send_step();
}

// Sums per slot of the layout over all ranks, added in block order.
std::vector<BlockSums> ShardedOptimizer::tensor_sums(int first_bucket, int num_buckets) {
  if (num_buckets == 0) return std::vector<BlockSums>(layout_.slots.size());
  const BucketState& first = buckets_[first_bucket];
  const BucketState& last = buckets_[first_bucket + num_buckets - 1];
  const auto begin = static_cast<std::size_t>(first.first_block) * sizeof(BlockSums);
  const auto end = static_cast<std::size_t>(last.first_block + last.num_blocks) * sizeof(BlockSums);
  host_sums_.fetch(stream_, begin, end - begin);
  stream_.synchronize();
  const std::string mine(reinterpret_cast<const char*>(host_sums_.bytes().data()) + begin,
                         end - begin);
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
  report.grad_norm = std::sqrt(gradient);
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

}  // namespace trainer
