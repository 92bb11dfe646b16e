#include "trainer/data/sampler.h"

#include <cmath>
#include <numeric>
#include <utility>

#include "comm/error.h"
#include "comm/random.h"

namespace trainer {

MicroBatchRange micro_batches_of_rank(std::int64_t num_micro_batches, int rank, int num_ranks) {
  REQUIRE(rank >= 0 && rank < num_ranks, "rank {} of {}", rank, num_ranks);
  return {rank * num_micro_batches / num_ranks, (rank + 1) * num_micro_batches / num_ranks};
}

std::vector<std::uint32_t> epoch_permutation(std::int64_t size, std::uint64_t seed,
                                             std::uint32_t epoch) {
  std::vector<std::uint32_t> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), 0u);
  for (std::uint64_t i = order.size(); i-- > 1;) {
    const comm::Random4 random = comm::philox(seed, comm::Purpose::kShuffle, i, epoch, 0);
    const std::uint64_t bits = std::uint64_t{random.v[1]} << 32 | random.v[0];
    // floor(bits (i + 1) / 2^64): a bias below 2^-32
    const auto j =
        static_cast<std::uint64_t>((static_cast<unsigned __int128>(bits) * (i + 1)) >> 64);
    std::swap(order[i], order[j]);
  }
  return order;
}

Sampler::Sampler(SamplerOptions options) : options_(std::move(options)) {
  REQUIRE(options_.size >= 1 && options_.size <= 0xffffffffLL, "{} samples", options_.size);
  REQUIRE(options_.batch >= 1 && options_.micro_batch >= 1 &&
              options_.batch % options_.micro_batch == 0,
          "batch {}, micro-batch {}", options_.batch, options_.micro_batch);
  REQUIRE(options_.bucket_of.empty() ||
              static_cast<std::int64_t>(options_.bucket_of.size()) == options_.size,
          "{} buckets for {} samples", options_.bucket_of.size(), options_.size);
  restart();
}

Draw Sampler::draw_at(std::int64_t position) {
  const std::int64_t epoch = position / options_.size;
  const std::int64_t offset = position % options_.size;
  if (!options_.shuffle) return {offset, static_cast<std::uint32_t>(epoch)};
  if (epoch != permutation_epoch_) {
    permutation_ =
        epoch_permutation(options_.size, options_.seed, static_cast<std::uint32_t>(epoch));
    permutation_epoch_ = epoch;
  }
  return {permutation_[static_cast<std::size_t>(offset)], static_cast<std::uint32_t>(epoch)};
}

void Sampler::restart() {
  int num_buckets = 0;
  for (const int bucket : options_.bucket_of) num_buckets = std::max(num_buckets, bucket + 1);
  queues_.assign(static_cast<std::size_t>(num_buckets), {});
  next_position_ = 0;
  next_step_ = 0;
}

// The next step of several buckets: draws from the stream until a queue holds a batch.
StepDraws Sampler::advance() {
  for (;;) {
    const Draw draw = draw_at(next_position_++);
    const int bucket = options_.bucket_of[static_cast<std::size_t>(draw.sample)];
    auto& queue = queues_[static_cast<std::size_t>(bucket)];
    queue.push_back(draw);
    if (static_cast<std::int64_t>(queue.size()) < options_.batch) continue;
    StepDraws step = {bucket, {queue.begin(), queue.end()}};
    queue.clear();
    ++next_step_;
    return step;
  }
}

StepDraws Sampler::step(std::int64_t index) {
  REQUIRE(index >= 0, "step {}", index);
  if (options_.bucket_of.empty()) {
    StepDraws step;
    step.draws.reserve(static_cast<std::size_t>(options_.batch));
    for (std::int64_t i = 0; i < options_.batch; ++i)
      step.draws.push_back(draw_at(index * options_.batch + i));
    return step;
  }
  if (index < next_step_) restart();
  while (next_step_ < index) advance();
  return advance();
}

std::int64_t Sampler::steps_of_epochs(double epochs) const {
  return static_cast<std::int64_t>(
      std::ceil(epochs * static_cast<double>(options_.size) / static_cast<double>(options_.batch)));
}

double Sampler::epochs_of_steps(std::int64_t steps) const {
  return static_cast<double>(steps) * static_cast<double>(options_.batch) /
         static_cast<double>(options_.size);
}

std::vector<EvaluationDraws> evaluation_draws(std::int64_t size, std::int64_t micro_batch,
                                              const std::vector<int>& bucket_of) {
  std::vector<std::vector<std::int64_t>> members(1);
  for (std::int64_t i = 0; i < size; ++i) {
    const auto bucket =
        bucket_of.empty() ? 0 : static_cast<std::size_t>(bucket_of[static_cast<std::size_t>(i)]);
    if (members.size() <= bucket) members.resize(bucket + 1);
    members[bucket].push_back(i);
  }
  std::vector<EvaluationDraws> result;
  for (std::size_t bucket = 0; bucket < members.size(); ++bucket) {
    for (std::size_t i = 0; i < members[bucket].size(); ++i) {
      if (i % static_cast<std::size_t>(micro_batch) == 0)
        result.push_back({static_cast<int>(bucket), {}});
      result.back().samples.push_back(members[bucket][i]);
    }
  }
  return result;
}

}  // namespace trainer
