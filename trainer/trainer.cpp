#include "trainer/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstring>

#include "trainer/memory.h"
#include "trainer/non_finite.h"

namespace trainer {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string sample_list(const std::vector<std::int64_t>& samples) {
  std::string ids;
  for (std::int64_t id : samples) ids += (ids.empty() ? "" : ", ") + std::to_string(id);
  return ids;
}

void append_list(std::string& bytes, const std::vector<std::int64_t>& list) {
  const std::uint64_t count = list.size();
  bytes.append(reinterpret_cast<const char*>(&count), sizeof(count));
  bytes.append(reinterpret_cast<const char*>(list.data()), count * sizeof(std::int64_t));
}

// Appends to `list`; returns where the next field begins.
std::size_t read_list(const std::string& bytes, std::size_t at, std::vector<std::int64_t>& list) {
  std::uint64_t count;
  std::memcpy(&count, bytes.data() + at, sizeof(count));
  const std::size_t before = list.size();
  list.resize(before + count);
  std::memcpy(list.data() + before, bytes.data() + at + sizeof(count),
              count * sizeof(std::int64_t));
  return at + sizeof(count) + count * sizeof(std::int64_t);
}

}  // namespace

Trainer::Trainer(const Parts& parts)
    : parts_(parts),
      slots_(1),
      capture_(parts.network.stream(),
               captures_steps(parts.config, parts.network.stream(), parts.optimizer)),
      feeder_(parts.loader, parts.network.stream()),
      num_losses_(parts.network.training(0).plan().graph->losses().size()),
      launched_{Launched(parts.network.stream().device()),
                Launched(parts.network.stream().device())},
      last_end_(now()) {
  for (const LedgerEntry& entry : parts.optimizer.ledger()) {
    penalised_ |= entry.trained && entry.mode == DecayMode::kLoss && entry.gradient > 0;
  }
  const std::int64_t num_local = parts.loader.num_local_micro_batches();
  const comm::Device device = parts.network.stream().device();
  losses_ = comm::Buffer(device, static_cast<std::size_t>(num_local) * num_losses_ * sizeof(float));
  for (Launched& launched : launched_) {
    launched.losses = comm::Buffer::for_transfer(device, losses_.size_bytes());
    launched.verdict = comm::Buffer::for_transfer(device, sizeof(std::int32_t));
  }
  if (parts.config.model.norm != Norm::kSync) return;
  parts.network.bind_lock_step(num_local);
  slots_.resize(static_cast<std::size_t>(num_local));
  lock_step_.emplace(parts.communicator, parts.optimizer.num_micro_batches());
}

// A GPU is given this step before the host looks at what the step before has become.
std::vector<StepReport> Trainer::step(std::int64_t index, StepVotes& votes) {
  launch(index);
  std::vector<StepReport> reports;
  Launched &before = launched_[(index + 1) % 2], &newest = launched_[index % 2];
  if (before.index >= 0) reports.push_back(settle(before, votes));
  // Norms are there of the newest step alone.
  if (is_measured(index) || parts_.network.stream().on_cpu())
    reports.push_back(settle(newest, votes));
  if (reports.empty()) votes = {};  // not agreed upon: they are cast again with the next step
  return reports;
}

std::vector<StepReport> Trainer::flush() {
  std::vector<StepReport> reports;
  StepVotes none;
  Launched& newest = launched_[index_ % 2];
  if (newest.index >= 0) reports.push_back(settle(newest, none));
  return reports;
}

// The step, in order: every stage is one call.
void Trainer::launch(std::int64_t index) {
  begin(index);
  lock_step_ ? compute_together() : compute_one_by_one();
  const double start = now();
  {
    comm::Progress::Waiting waiting(parts_.progress);
    parts_.optimizer.finish_updates();  // each rank updates its shards and gathers the others'
  }
  ++version_;
  seconds_.communication += now() - start;
  Launched& launched = launched_[index % 2];
  launched.index = index;
  launched.seconds = seconds_;
  const comm::StreamView stream = parts_.network.stream();
  const std::size_t num_bytes = launched.num_losses * sizeof(float);
  comm::copy_bytes(stream, launched.losses.bytes().first(num_bytes),
                   losses_.bytes().first(num_bytes));
  parts_.optimizer.fetch_verdict(launched.verdict);
  stream.record(launched.done);
}

// What a launched step has become, agreed by all ranks.
StepReport Trainer::settle(Launched& launched, StepVotes& votes) {
  const double start = now();
  {
    comm::Progress::Waiting waiting(parts_.progress);  // what peers send is part of the step
    launched.done.synchronize();
  }
  const double computed = now();
  launched.seconds.compute += computed - start;
  check_losses(launched);
  const std::vector<double> losses = agree_on_step(launched, votes);
  launched.seconds.communication += now() - computed;
  StepReport report = describe(launched, losses);
  launched.index = -1;
  return report;
}

// The first, the last, and every log.every_steps-th step.
bool Trainer::is_logged(std::int64_t index) const {
  return (index + 1) % parts_.config.log.every_steps == 0 || index == first_index_ ||
         index + 1 == parts_.length.total_steps;
}

bool Trainer::is_measured(std::int64_t index) const { return is_logged(index) || penalised_; }

void Trainer::begin(std::int64_t index) {
  if (first_index_ < 0) first_index_ = index;
  index_ = index;
  launched_[index % 2].num_losses = 0;
  seconds_ = {};
  const Config& config = parts_.config;
  StepValues values;
  values.step = index;
  values.lr_factor = learning_rate_factor(config.schedule, index, parts_.length);
  values.lr = config.optimizer.lr * values.lr_factor;
  values.lambda_factor = decay_factor(config.regularization, index, parts_.length);
  values.report = is_measured(index);
  parts_.optimizer.begin_step(values);
}

void Trainer::compute_one_by_one() {
  const std::int64_t num_local = parts_.loader.num_local_micro_batches();
  for (std::int64_t m = 0; m < num_local; ++m) {
    load(0);
    if (failure_) {
      skip_micro_batch();  // the exchange goes on, so that nobody waits for this rank
      continue;
    }
    const double start = now();
    compute(m);
    seconds_.compute += now() - start;
  }
}

// From the inputs to the losses and, behind the last micro-batch of one rank, the update.
void Trainer::compute(std::int64_t micro_batch) {
  const Running& running = slots_[0];
  models::Executable& executable = *running.executable;
  const bool last = micro_batch + 1 == parts_.loader.num_local_micro_batches();
  const StepCapture::Kind kind{&executable, micro_batch, last && is_measured(index_),
                               executable.prepares(version_)};
  const bool called = capture_.launch(kind, [&] {
    executable.run(*this, version_);  // full buckets leave meanwhile
    keep_losses(running, micro_batch);
  });
  launched_[index_ % 2].num_losses += num_losses_;
  if (called) return;
  executable.repeated(version_);
  parts_.optimizer.repeated();
}

// norm: sync. Every micro-batch of the global batch passes a synchronised value before any goes on.
void Trainer::compute_together() {
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) load(slot);
  // A rank without its samples would be waited for: all ranks leave out the step, or none.
  if (lock_step_->any_failed(static_cast<bool>(failure_))) {
    for (std::size_t slot = 0; slot < slots_.size(); ++slot) skip_micro_batch();
    return;
  }
  std::vector<std::vector<models::SyncPoint>> points;
  for (const Running& running : slots_) points.push_back(running.executable->sync_points());
  std::vector<std::size_t> done(slots_.size(), 0);
  const auto run_until = [&](auto end_of) {
    const double start = now();
    for (slot_ = 0; slot_ < slots_.size(); ++slot_) {
      parts_.progress.publish(comm::Phase::kStep, index_);
      const std::size_t end = end_of(slot_);
      slots_[slot_].executable->run(*this, version_, done[slot_], end);
      done[slot_] = end;
    }
    seconds_.compute += now() - start;
  };
  std::vector<models::SyncPoint> values(slots_.size());
  for (std::size_t p = 0; p < points[0].size(); ++p) {
    run_until([&](std::size_t slot) { return (values[slot] = points[slot].at(p)).step; });
    const double start = now();
    comm::Progress::Waiting waiting(parts_.progress);
    lock_step_->merge(parts_.network.stream(), values);
    seconds_.communication += now() - start;
  }
  run_until([&](std::size_t slot) { return slots_[slot].executable->num_steps(); });
  slot_ = 0;
  for (std::size_t slot = 0; slot < slots_.size(); ++slot)
    keep_losses(slots_[slot], static_cast<std::int64_t>(slot));
  launched_[index_ % 2].num_losses = slots_.size() * num_losses_;
}

// The next micro-batch, decoded ahead, becomes the slot's input.
void Trainer::load(std::size_t slot) {
  parts_.progress.publish(comm::Phase::kStep, index_);
  const double start = now();
  Batch* batch = nullptr;
  if (!failure_) failure_ = capture([&] { batch = feeder_.next(); });
  const double loaded = now();
  seconds_.data += loaded - start;
  if (failure_) return;
  Running& running = slots_[slot];
  running.executable = &parts_.network.training(static_cast<std::size_t>(batch->bucket), slot);
  running.samples.assign(batch->sample_id.begin(), batch->sample_id.end());
  running.in_forward = true;
  feeder_.feed(*running.executable, *batch);
  seconds_.compute += now() - loaded;
}

void Trainer::keep_losses(const Running& running, std::int64_t micro_batch) {
  running.executable->copy_losses(losses_.bytes().subspan(static_cast<std::size_t>(micro_batch) *
                                                          num_losses_ * sizeof(float)));
}

void Trainer::skip_micro_batch() {
  const int num_buckets = static_cast<int>(parts_.network.layout().buckets.size());
  for (int bucket = 0; bucket < num_buckets; ++bucket) parts_.optimizer.bucket_ready(bucket);
}

// In lock-step a bucket is ready in every slot, in their order, before the next value is merged.
void Trainer::bucket_ready(int bucket) {
  if (slot_ > 0) {
    const models::Bucket& b = parts_.network.layout().buckets[static_cast<std::size_t>(bucket)];
    const auto at = static_cast<std::size_t>(b.offset) * sizeof(float);
    const auto bytes = static_cast<std::size_t>(b.size) * sizeof(float);
    comm::copy_bytes(parts_.network.stream(),
                     parts_.network.storage().gradients.bytes().subspan(at, bytes),
                     parts_.network.gradients(slot_).bytes().subspan(at, bytes));
  }
  parts_.optimizer.bucket_ready(bucket);
}

void Trainer::bucket_needed(int bucket) {
  const double start = now();
  comm::Progress::Waiting waiting(parts_.progress);
  parts_.optimizer.bucket_needed(bucket);
  const double waited = now() - start;
  seconds_.communication += waited;
  seconds_.compute -= waited;  // which goes on around this call
}

// On a CPU a loss that is not finite is caught between forward and backward, before anything is
// updated. The forward pass is then repeated to find the op; the backward pass goes on, for the
// others' sake.
void Trainer::before(const models::PlanStep& step, const models::Kernel&) {
  Running& running = slots_[slot_];
  if (!running.in_forward || step.kind != models::StepKind::kBackward) return;
  running.in_forward = false;
  if (!parts_.network.stream().on_cpu()) return;
  const auto& losses = running.executable->plan().graph->losses();
  for (std::size_t l = 0; l < losses.size(); ++l) {
    const float value = running.executable->output(losses[l].name).f32()[0];
    if (std::isfinite(value) || failure_) continue;
    diverged({index_, l, value}, first_non_finite_op(*running.executable, version_),
             running.samples);
  }
}

void Trainer::diverged(const BadLoss& bad, const std::string& first,
                       const std::vector<std::int64_t>& samples) {
  failure_ = {
      comm::ExitCode::kDiverged,
      fmt::format("step {}: loss {} is {} on rank {}; first in {}; samples {}",
                  bad.index + 1, parts_.network.training(0).plan().graph->losses()[bad.loss].name,
                  bad.value, parts_.communicator.rank(), first, sample_list(samples))};
}

// A GPU has gone on to the update when the host reads its losses. Values that are not finite were
// not written there, so a micro-batch that is read again shows the op.
void Trainer::check_losses(const Launched& launched) {
  const std::span<const float> values = launched.values();
  const auto bad = std::ranges::find_if(values, [](float v) { return !std::isfinite(v); });
  if (bad == values.end() || failure_) return;
  const auto at = static_cast<std::size_t>(bad - values.begin());
  const BadLoss loss{launched.index, at % num_losses_, *bad};
  std::string first = "an op that was not looked for";
  std::vector<std::int64_t> samples;
  const Failure failure = capture([&] {
    const auto loader = parts_.loader.again(launched.index);
    Feeder feeder(*loader, parts_.network.stream());
    Batch* batch = nullptr;
    for (std::size_t m = 0; m <= at / num_losses_; ++m) batch = feeder.next();
    samples.assign(batch->sample_id.begin(), batch->sample_id.end());
    if (lock_step_) return;  // one micro-batch alone computes something else
    models::Executable& again = parts_.network.training(static_cast<std::size_t>(batch->bucket));
    feeder.feed(again, *batch);
    first = first_non_finite_op(again, version_);
  });
  if (failure) first = fmt::format("an op that was not found again ({})", failure.text);
  diverged(loss, first, samples);
}

void Trainer::after(const models::PlanStep&, const models::Kernel&) { parts_.optimizer.progress(); }

std::vector<std::string> Trainer::gather(const std::string& mine) {
  comm::Progress::Waiting waiting(parts_.progress);
  return parts_.communicator.all_gather(mine);
}

// One small collective: votes, failures and losses of every micro-batch, in their order.
std::vector<double> Trainer::agree_on_step(const Launched& launched, StepVotes& votes) {
  const bool non_finite = launched.verdict.as<std::int32_t>()[0] != 0;
  std::string mine(1, static_cast<char>(votes.stop | votes.save << 1 | non_finite << 2));
  const std::string text = pack(failure_);
  const auto text_size = static_cast<std::uint32_t>(text.size());
  mine.append(reinterpret_cast<const char*>(&text_size), sizeof(text_size));
  mine += text;
  std::vector<std::int64_t> skipped;
  for (const std::int64_t id : parts_.loader.skipped_ids()) {
    if (!left_out_.contains(id)) skipped.push_back(id);
  }
  append_list(mine, skipped);
  for (const double loss : launched.values()) {
    mine.append(reinterpret_cast<const char*>(&loss), sizeof(loss));
  }
  std::vector<double> sums(num_losses_, 0.0);
  Failure first;
  bool diverged = false;
  std::vector<std::int64_t> left_out;
  for (const std::string& bytes : gather(mine)) {
    votes.stop |= bytes[0] & 1;
    votes.save |= bytes[0] >> 1 & 1;
    diverged |= bytes[0] >> 2 & 1;
    std::uint32_t size;
    std::memcpy(&size, bytes.data() + 1, sizeof(size));
    std::size_t at = 1 + sizeof(size);
    if (!first) first = unpack(bytes.substr(at, size));
    at = read_list(bytes, at + size, left_out);
    for (; at < bytes.size(); at += num_losses_ * sizeof(double)) {
      for (std::size_t l = 0; l < num_losses_; ++l) {
        double value;
        std::memcpy(&value, bytes.data() + at + l * sizeof(double), sizeof(value));
        sums[l] += value;
      }
    }
  }
  if (first) throw AgreedError(first.code, first.text);
  if (diverged) {  // and no rank has a loss that says more
    throw AgreedError(comm::ExitCode::kDiverged,
                      fmt::format("step {}: the gradient is not finite", launched.index + 1));
  }
  agree_on_left_out(left_out);
  for (double& sum : sums) sum /= static_cast<double>(parts_.optimizer.num_micro_batches());
  return sums;
}

// Every rank counts what any has left out, so that all reach the limit together.
void Trainer::agree_on_left_out(const std::vector<std::int64_t>& samples) {
  newly_left_out_.clear();
  for (const std::int64_t sample : samples) {
    if (left_out_.insert(sample).second) newly_left_out_.push_back(sample);
  }
  if (newly_left_out_.empty()) return;
  const Failure failure = capture([&] { parts_.loader.count_elsewhere(newly_left_out_); });
  if (failure) throw AgreedError(failure.code, failure.text);
}

StepReport Trainer::describe(const Launched& launched, const std::vector<double>& losses) {
  const std::int64_t index = launched.index;
  const Config& config = parts_.config;
  StepReport report;
  report.step = index + 1;
  report.left_out = newly_left_out_;
  report.epoch = parts_.loader.sampler().epochs_of_steps(index + 1);
  report.images = (index + 1) * config.train.batch;
  report.lr = config.optimizer.lr * learning_rate_factor(config.schedule, index, parts_.length);
  report.loss = 0;
  const auto& named = parts_.network.training(0).plan().graph->losses();
  for (std::size_t l = 0; l < named.size(); ++l) {
    report.losses.push_back({"loss_" + named[l].name, losses[l]});
    report.loss += named[l].weight * losses[l];
  }
  report.logged = is_logged(index);
  if (report.logged || penalised_) {
    const OptimizerReport norms = parts_.optimizer.report();
    report.grad_norm = norms.grad_norm;
    report.l2_penalty = norms.l2_penalty;
    report.loss += norms.loss_penalty;
    for (const GroupReport& group : norms.groups) {
      report.extra.push_back({"penalty/" + group.group, group.penalty});
      report.extra.push_back({"weight_norm/" + group.group, group.weight_norm});
      report.extra.push_back({"update_ratio/" + group.group, group.update_ratio});
      report.extra.push_back({"sparsity/" + group.group, group.sparsity});
    }
  }
  report.memory_bytes = parts_.network.stream().on_cpu()
                            ? peak_memory_bytes()
                            : comm::peak_allocated_bytes(comm::DeviceKind::kCuda);
  const double end = now();
  report.seconds = launched.seconds;
  report.seconds.total = end - last_end_;
  last_end_ = end;
  return report;
}

}  // namespace trainer
