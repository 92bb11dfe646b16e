#include "trainer/data/loader.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>
#include <utility>

#include "trainer/data/size_buckets.h"

namespace trainer {
namespace {

// The error a thread met, as comm::Error.
std::exception_ptr current_error() {
  try {
    throw;
  } catch (const comm::Error&) {
    return std::current_exception();
  } catch (const std::bad_alloc&) {
    return std::make_exception_ptr(
        comm::Error(comm::ExitCode::kSystemLimit,
                    "no memory to decode an image; use fewer runtime.loader_threads"));
  } catch (const std::exception& error) {
    return std::make_exception_ptr(
        comm::Error(comm::ExitCode::kBug, fmt::format("reading a sample: {}", error.what())));
  }
}

}  // namespace

// A micro-batch between plan and hand-out.
struct Loader::Slot {
  explicit Slot(const BatchShape& shape)
      : batch(shape),
        draws(static_cast<std::size_t>(shape.num_images)),
        errors(static_cast<std::size_t>(shape.num_images)),
        skips(static_cast<std::size_t>(shape.num_images)) {}

  Batch batch;
  std::vector<Draw> draws;
  std::int64_t sequence = -1;  // number of this rank's micro-batch
  int num_open = 0;            // images not yet read
  std::vector<std::exception_ptr> errors;
  std::vector<std::vector<LeftOut>> skips;  // an image
};

void enforce_skip_limit(const Dataset& dataset, const DataConfig& config,
                        std::span<const LeftOut> left_out) {
  AnomalyReport all = dataset.anomalies();
  for (const LeftOut& one : left_out)
    all.add(one.kind, trainer::quoted(dataset.sample(one.sample).name), one.message);
  all.enforce(true, config.skip_limit, dataset.source());
}

std::unique_ptr<Loader> Loader::train(const Dataset& dataset, const DataConfig& config,
                                      const LoaderOptions& options) {
  std::unique_ptr<Loader> loader(new Loader(dataset, config, options, true));
  loader->start_threads();
  return loader;
}

std::unique_ptr<Loader> Loader::evaluate(const Dataset& dataset, const DataConfig& config,
                                         const LoaderOptions& options) {
  std::unique_ptr<Loader> loader(new Loader(dataset, config, options, false));
  loader->start_threads();
  return loader;
}

std::unique_ptr<Loader> Loader::again(std::int64_t step) const {
  REQUIRE(sampler_ != nullptr, "an evaluation has no steps");
  LoaderOptions options = options_;
  options.first_step = step;
  return train(dataset_, config_, options);
}

Loader::Loader(const Dataset& dataset, const DataConfig& config, const LoaderOptions& options,
               bool training)
    : dataset_(dataset),
      config_(config),
      options_(options),
      reader_(dataset, config,
              {.fields = options.fields, .seed = options.seed, .augment = training}),
      bucket_of_(assign_buckets(dataset, reader_.buckets())) {
  REQUIRE(options.threads >= 1 && options.prefetch >= 1, "{} threads, {} ahead", options.threads,
          options.prefetch);
  std::int64_t num_micro_batches = 0;
  if (training) {
    sampler_ = std::make_unique<Sampler>(SamplerOptions{.size = dataset.size(),
                                                        .batch = options.batch,
                                                        .micro_batch = options.micro_batch,
                                                        .seed = options.seed,
                                                        .shuffle = config.shuffle,
                                                        .bucket_of = bucket_of_});
    num_micro_batches = sampler_->num_micro_batches();
  } else {
    evaluation_ = evaluation_draws(dataset.size(), options.micro_batch, bucket_of_);
    num_micro_batches = static_cast<std::int64_t>(evaluation_.size());
  }
  range_ = micro_batches_of_rank(num_micro_batches, options.rank, options.num_ranks);
  cursor_ = {training ? options.first_step : -1, range_.begin};
  exhausted_ = range_.begin == range_.end;
  const bool on_gpu = options.device.kind != comm::DeviceKind::kCpu;
  const BatchShape shape = {.num_images = static_cast<int>(options.micro_batch),
                            .channels = dataset.channels(),
                            .max_boxes = config.max_boxes,
                            .buckets = reader_.buckets(),
                            .fields = options.fields,
                            .device = options.device,
                            .packed = options.packed || on_gpu};
  for (int i = 0; i < options.prefetch + held(); ++i)
    slots_.push_back(std::make_unique<Slot>(shape));
  packed_bytes_ = slots_[0]->batch.packed.size();
}

void Loader::start_threads() {
  for (int i = 0; i < options_.threads; ++i) threads_.emplace_back([this] { work(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_ready_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

// The next micro-batch into a free slot; true if there is something to read for it. REQUIRES:
// mutex_ held, not exhausted_.
bool Loader::plan(Slot& slot) {
  slot.sequence = num_planned_++;
  try {
    plan_draws(slot);
    slot.num_open = slot.batch.num_images;
    next_image_ = 0;
    return true;
  } catch (...) {  // no memory for a permutation
    slot.errors[0] = current_error();
    slot.num_open = 0;
    next_image_ = slot.batch.num_images;
    exhausted_ = true;
    slot_ready_.notify_one();
    return false;
  }
}

void Loader::plan_draws(Slot& slot) {
  Batch& batch = slot.batch;
  batch.step = cursor_.step;
  batch.micro_batch = cursor_.micro_batch;
  if (sampler_) {
    if (step_of_draws_ != cursor_.step) step_draws_ = sampler_->step(cursor_.step);
    step_of_draws_ = cursor_.step;
    batch.set_bucket(step_draws_.bucket);
    batch.valid = batch.num_images;
    const auto first = step_draws_.draws.begin() + cursor_.micro_batch * options_.micro_batch;
    std::copy_n(first, batch.num_images, slot.draws.begin());
  } else {
    const EvaluationDraws& draws = evaluation_[static_cast<std::size_t>(cursor_.micro_batch)];
    batch.set_bucket(draws.bucket);
    batch.valid = static_cast<int>(draws.samples.size());
    for (std::size_t i = 0; i < draws.samples.size(); ++i) slot.draws[i] = {draws.samples[i], 0};
  }
  if (++cursor_.micro_batch == range_.end) {
    exhausted_ = !sampler_;
    cursor_ = {cursor_.step + 1, range_.begin};
  }
}

void Loader::work() {
  std::unique_lock lock(mutex_);
  Slot* slot = nullptr;  // the newest planned one
  const auto size = static_cast<std::int64_t>(slots_.size());
  const auto take = [&] {
    if (stopping_) return true;
    if (num_planned_ > 0) {
      slot = slots_[static_cast<std::size_t>((num_planned_ - 1) % size)].get();
      if (next_image_ < slot->batch.num_images) return true;
    }
    // A slot is free once the caller has asked for the micro-batch held() after it.
    if (num_planned_ - std::max<std::int64_t>(num_handed_ - held(), 0) >= size) return false;
    slot = slots_[static_cast<std::size_t>(num_planned_ % size)].get();
    return !exhausted_ && plan(*slot);
  };
  for (;;) {
    work_ready_.wait(lock, take);
    if (stopping_) return;
    Slot& current = *slot;
    const int n = next_image_++;
    lock.unlock();
    fill(current, n);
    lock.lock();
    if (--current.num_open == 0) slot_ready_.notify_one();
    work_ready_.notify_one();
  }
}

void Loader::fill(Slot& slot, int n) {
  const auto i = static_cast<std::size_t>(n);
  slot.errors[i] = nullptr;
  slot.skips[i].clear();
  try {
    if (n < slot.batch.valid)
      read_or_replace(slot, n);
    else
      slot.batch.clear_image(n, dataset_.ignore());
  } catch (...) {
    slot.errors[i] = current_error();
  }
}

void Loader::read_or_replace(Slot& slot, int n) {
  const auto i = static_cast<std::size_t>(n);
  Draw draw = slot.draws[i];
  for (std::int64_t tries = 0; tries <= config_.skip_limit; ++tries) {
    try {
      return reader_.read(draw, slot.batch, n);
    } catch (const SampleError& error) {
      if (config_.on_error == OnError::kStop) throw;
      slot.skips[i].push_back({draw.sample, error.kind(), error.what()});
    }
    if (!sampler_) return slot.batch.clear_image(n, dataset_.ignore());
    draw.sample = replacement(draw.sample);
    if (draw.sample == slot.draws[i].sample) break;
  }
  comm::fail(comm::ExitCode::kData, "{}; no sample could be read in its place",
             slot.skips[i].front().message);
}

std::int64_t Loader::replacement(std::int64_t sample) const {
  const std::int64_t size = dataset_.size();
  const auto bucket = [&](std::int64_t id) {
    return bucket_of_.empty() ? 0 : bucket_of_[static_cast<std::size_t>(id)];
  };
  std::int64_t next = (sample + 1) % size;
  while (bucket(next) != bucket(sample)) next = (next + 1) % size;
  return next;
}

void Loader::count_skipped(const Slot& slot) {
  const std::size_t before = left_out_.size();
  for (const auto& skips : slot.skips)
    for (const LeftOut& skip : skips)
      if (skipped_ids_.insert(skip.sample).second) left_out_.push_back(skip);
  if (sampler_ && left_out_.size() > before) enforce_skip_limit(dataset_, config_, left_out_);
}

void Loader::count_elsewhere(std::span<const std::int64_t> samples) {
  for (const std::int64_t sample : samples)
    if (skipped_ids_.insert(sample).second)
      left_out_.push_back({sample, AnomalyKind::kUndecodable, "left out by another rank"});
  enforce_skip_limit(dataset_, config_, left_out_);
}

Batch* Loader::next() {
  const auto start = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  if (stopping_) return nullptr;
  Slot& slot = *slots_[static_cast<std::size_t>(num_handed_) % slots_.size()];
  ++num_handed_;  // frees the oldest slot that the caller had
  work_ready_.notify_all();
  const auto done = [&] {
    return (slot.sequence == num_handed_ - 1 && slot.num_open == 0) ||
           (exhausted_ && num_planned_ < num_handed_);
  };
  slot_ready_.wait(lock, done);
  if (slot.sequence != num_handed_ - 1) {
    --num_handed_;
    return nullptr;
  }
  lock.unlock();
  try {
    for (const std::exception_ptr& error : slot.errors)
      if (error) std::rethrow_exception(error);
    count_skipped(slot);
  } catch (...) {
    const std::lock_guard guard(mutex_);
    stopping_ = true;
    work_ready_.notify_all();
    throw;
  }
  slot.batch.data_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return &slot.batch;
}

}  // namespace trainer
