#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "trainer/data/batch.h"
#include "trainer/data/dataset.h"
#include "trainer/data/sample_reader.h"
#include "trainer/data/sampler.h"

namespace trainer {

// A sample that on_error: skip leaves out, and why.
struct LeftOut {
  std::int64_t sample = 0;
  AnomalyKind kind = AnomalyKind::kUndecodable;
  std::string message;
};

// Counts them beside what is wrong with the annotations of their data set. Errors: as
// AnomalyReport::enforce with data.on_error: skip.
void enforce_skip_limit(const Dataset& dataset, const DataConfig& config,
                        std::span<const LeftOut> left_out);

struct LoaderOptions {
  Fields fields;
  std::uint64_t seed = 0;
  std::int64_t batch = 1;        // of all ranks; training
  std::int64_t micro_batch = 1;  // images of one Batch
  int rank = 0, num_ranks = 1;
  std::int64_t first_step = 0;  // training
  int threads = 1;              // that decode, >= 1
  int prefetch = 4;             // micro-batches ahead, >= 1
  comm::Device device;          // that the batches are copied to
  bool packed = false;          // images as for a GPU, which resizes them itself, on any device
};

// Hands out the micro-batches of one rank in order, decoded ahead by a pool of threads. What it
// hands out is a pure function of (data, config, seed, step): not of the number of threads or
// ranks.
//
// on_error: skip. Where a sample can't be read, training takes the next one (by id, cyclic, of the
// same bucket) that can, so every rank and every restart agrees; an evaluation leaves it out. Every
// rank counts what it met itself; in evaluations the caller enforces skip_limit, over all ranks.
class Loader {
 public:
  // Training: for each step from first_step on, this rank's micro-batches; endless.
  // `dataset` and `config` outlive the loader.
  static std::unique_ptr<Loader> train(const Dataset& dataset, const DataConfig& config,
                                       const LoaderOptions& options);
  // Evaluation: this rank's share of evaluation_draws, not augmented, then nullptr.
  static std::unique_ptr<Loader> evaluate(const Dataset& dataset, const DataConfig& config,
                                          const LoaderOptions& options);
  // The same micro-batches anew, from `step` on. REQUIRES: training.
  std::unique_ptr<Loader> again(std::int64_t step) const;
  ~Loader();  // images being decoded are finished first
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next micro-batch, valid until the held()-th call from here; nullptr at the end of an
  // evaluation.
  // Errors: what reading a sample threw (65, 66), or in training 65 beyond skip_limit, at the
  // same micro-batch whatever the number of threads. The loader is then finished.
  Batch* next();
  // Batches that the caller has at a time: on a GPU the copy of one may be under way while the next
  // one is asked for.
  int held() const { return options_.device.kind == comm::DeviceKind::kCpu ? 1 : 2; }

  // Bytes of the packed images of a batch; 0: they are letter-boxed here.
  std::size_t packed_bytes() const { return packed_bytes_; }

  // Samples that other ranks left out count here too, once each, so that skip_limit is that of the
  // run. Errors: 65 beyond it.
  void count_elsewhere(std::span<const std::int64_t> samples);

  // Samples left out of the micro-batches handed out so far, each once.
  const std::vector<LeftOut>& left_out() const { return left_out_; }
  const std::set<std::int64_t>& skipped_ids() const { return skipped_ids_; }

  // Of a step (training), or in all (evaluation).
  std::int64_t num_local_micro_batches() const { return range_.end - range_.begin; }
  // Steps and epochs; REQUIRES: training.
  const Sampler& sampler() const { return *sampler_; }

 private:
  struct Slot;
  struct Cursor {
    std::int64_t step = 0, micro_batch = 0;
  };

  Loader(const Dataset& dataset, const DataConfig& config, const LoaderOptions& options,
         bool training);
  void start_threads();
  bool plan(Slot& slot);
  void plan_draws(Slot& slot);
  void work();
  void fill(Slot& slot, int n);
  void read_or_replace(Slot& slot, int n);
  std::int64_t replacement(std::int64_t sample) const;
  void count_skipped(const Slot& slot);

  const Dataset& dataset_;
  const DataConfig& config_;
  const LoaderOptions options_;
  const SampleReader reader_;
  const std::vector<int> bucket_of_;
  std::unique_ptr<Sampler> sampler_;         // training
  std::vector<EvaluationDraws> evaluation_;  // of all ranks
  MicroBatchRange range_;                    // of this rank
  std::size_t packed_bytes_ = 0;

  std::mutex mutex_;  // guards all below but left_out_ and skipped_ids_
  std::condition_variable work_ready_, slot_ready_;
  std::vector<std::unique_ptr<Slot>> slots_;  // ring: slot i holds micro-batches i, i + size, ...
  Cursor cursor_;
  StepDraws step_draws_;  // of cursor_.step
  std::int64_t step_of_draws_ = -1;
  std::int64_t num_planned_ = 0;  // slots given to the threads
  std::int64_t num_handed_ = 0;   // slots given to the caller
  int next_image_ = 0;            // of the newest planned slot
  bool exhausted_ = false, stopping_ = false;
  std::vector<std::thread> threads_;

  std::vector<LeftOut> left_out_;
  std::set<std::int64_t> skipped_ids_;
};

}  // namespace trainer
