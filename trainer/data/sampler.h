#pragma once

#include <cstdint>
#include <deque>
#include <vector>

namespace trainer {

struct SamplerOptions {
  std::int64_t size = 0;  // samples
  std::int64_t batch = 1;
  std::int64_t micro_batch = 1;  // divides batch
  std::uint64_t seed = 0;
  bool shuffle = true;
  // Several data.size: the bucket of every sample (else empty).
  std::vector<int> bucket_of;
};

// One image of the sample stream.
struct Draw {
  std::int64_t sample = 0;
  std::uint32_t epoch = 0;  // how often the sample was drawn before: the key of its augmentation
  bool operator==(const Draw&) const = default;
};

struct StepDraws {
  int bucket = 0;
  std::vector<Draw> draws;  // `batch` of them, micro-batch by micro-batch
};

// Half-open range of micro-batches.
struct MicroBatchRange {
  std::int64_t begin = 0, end = 0;
};

// Micro-batches floor(rM/W) .. floor((r+1)M/W)-1 of M for rank r of W.
MicroBatchRange micro_batches_of_rank(std::int64_t num_micro_batches, int rank, int num_ranks);

// The permutation of one epoch: Fisher-Yates keyed by Philox (seed, kShuffle, position, epoch).
std::vector<std::uint32_t> epoch_permutation(std::int64_t size, std::uint64_t seed,
                                             std::uint32_t epoch);

// Which samples a step trains on: a pure function of (options, step), whatever was asked before.
//
// The stream is the concatenation of the epochs' permutations; a batch may straddle two epochs, so
// none is partial. With one bucket step t is stream positions [t B, (t + 1) B). With several, each
// bucket queues its samples in stream order and emits a batch when it holds B: the step number
// counts the emissions. Every position of the stream is emitted once (at the end of a run each
// bucket may hold up to B - 1 that were not).
//
// A step is found by replaying the stream from its start, O(samples drawn so far), about 25 ns a
// sample, once a start; then O(B) a step. So nothing needs to be saved in a checkpoint.
class Sampler {
 public:
  // REQUIRES: size >= 1, batch >= 1, micro_batch divides batch, bucket_of empty or size entries.
  explicit Sampler(SamplerOptions options);

  StepDraws step(std::int64_t index);

  std::int64_t num_micro_batches() const { return options_.batch / options_.micro_batch; }
  // Steps that show every sample `epochs` times: the last batch may run into the next epoch.
  std::int64_t steps_of_epochs(double epochs) const;
  // Epochs completed after `steps` steps, fractional.
  double epochs_of_steps(std::int64_t steps) const;

 private:
  Draw draw_at(std::int64_t position);
  void restart();
  StepDraws advance();

  SamplerOptions options_;
  std::vector<std::uint32_t> permutation_;
  std::int64_t permutation_epoch_ = -1;
  // Replay state of several buckets.
  std::vector<std::deque<Draw>> queues_;
  std::int64_t next_position_ = 0;
  std::int64_t next_step_ = 0;
};

// A micro-batch of an evaluation: whole images of one bucket, in order of their ids.
struct EvaluationDraws {
  int bucket = 0;
  std::vector<std::int64_t> samples;  // 1 to micro_batch
};

// Every sample of the split once, cut the same way on any rank count; rank r takes its
// micro_batches_of_rank.
std::vector<EvaluationDraws> evaluation_draws(std::int64_t size, std::int64_t micro_batch,
                                              const std::vector<int>& bucket_of);

}  // namespace trainer
