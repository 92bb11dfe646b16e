#include "trainer/commands/bench_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "trainer/device.h"

namespace trainer {
namespace {

constexpr double kShortestShown = 2e-6;  // of an update that is merely looked after

std::int64_t num_micro_batches(const Config& config) {
  return config.train.batch / config.train.micro_batch;
}

}  // namespace

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

BenchRun::BenchRun(const Config& config, Network& network, const BenchParts& parts)
    : config_(config),
      length_(parts.length),
      progress_(parts.progress),
      executable_(network.training(0)),
      stream_(network.stream()),
      timed_(parts.communicator),
      optimizer_(network.storage(), timed_, stream_,
                 {config.optimizer, config.regularization, config.clip, config.ema,
                  num_micro_batches(config), exact_reduction(config.runtime, stream_.device())}),
      capture_(stream_, captures_steps(config, stream_, optimizer_)),
      num_local_(micro_batches_of(num_micro_batches(config), timed_.rank(), timed_.size()).count()),
      launched_{Launched(stream_.device()), Launched(stream_.device())},
      watched_(stream_.on_cpu()),
      costs_(executable_.plan().steps.size()) {
  losses_ = comm::Buffer(stream_.device(),
                         static_cast<std::size_t>(num_local_) * losses().size() * sizeof(float));
  for (Launched& launched : launched_) {
    launched.losses = comm::Buffer::for_transfer(stream_.device(), losses_.size_bytes());
  }
  timed_.listen([this](const char* call, double start, double end) {
    if (trace_) trace_->add({TraceTrack::kCommunication, call, start, end});
  });
}

void BenchRun::launch(std::int64_t index) {
  Launched& launched = launched_[static_cast<std::size_t>(index % 2)];
  launched.start = steady_seconds();
  StepValues values;
  values.step = index;
  values.lr_factor = learning_rate_factor(config_.schedule, index, length_);
  values.lr = config_.optimizer.lr * values.lr_factor;
  optimizing("begin step", [&] { optimizer_.begin_step(values); });
  for (std::int64_t m = 0; m < num_local_; ++m) {
    progress_.publish(comm::Phase::kStep, index);
    compute(m);
  }
  optimizing("finish updates", [&] { optimizer_.finish_updates(); });
  ++version_;
  comm::copy_bytes(stream_, launched.losses.bytes(), losses_.bytes());
  stream_.record(launched.done);
}

void BenchRun::compute(std::int64_t micro_batch) {
  const auto launch = [&] {
    executable_.run(*this, version_);
    executable_.copy_losses(losses_.bytes().subspan(static_cast<std::size_t>(micro_batch) *
                                                    losses().size() * sizeof(float)));
  };
  if (watched_) return launch();
  const bool prepares = executable_.prepares(version_);
  if (capture_.launch({&executable_, micro_batch, false, prepares}, launch)) return;
  executable_.repeated(version_);
  optimizer_.repeated();
}

void BenchRun::settle(std::int64_t index) {
  const Launched& launched = launched_[static_cast<std::size_t>(index % 2)];
  launched.done.synchronize();
  if (trace_) {
    trace_->add({TraceTrack::kCompute, fmt::format("step {}", index + 1), launched.start,
                 steady_seconds(), "step"});
  }
  const std::span<const float> values = launched.losses.as<float>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i]) || !non_finite_.empty()) continue;
    non_finite_ = fmt::format("loss {} is {} at step {}", losses()[i % losses().size()].name,
                              values[i], index + 1);
  }
}

void BenchRun::watch() {
  watched_ = true;
  std::fill(costs_.begin(), costs_.end(), Cost{});
  optimizer_seconds_ = 0;
  communication_start_ = timed_.seconds();
}

PhaseSeconds BenchRun::phases(int steps) const {
  PhaseSeconds phases;
  for (std::size_t s = 0; s < costs_.size(); ++s) {
    const bool forward = executable_.plan().steps[s].kind == models::StepKind::kForward;
    (forward ? phases.forward : phases.backward) += costs_[s].seconds / steps;
  }
  phases.communication = (timed_.seconds() - communication_start_) / steps;
  phases.update = std::max(0.0, optimizer_seconds_ / steps - phases.communication);
  return phases;
}

std::vector<OpCost> BenchRun::ops(int steps) const {
  const models::Plan& plan = executable_.plan();
  std::vector<OpCost> ops;
  for (std::size_t s = 0; s < costs_.size(); ++s) {
    if (!costs_[s].kernel) continue;
    const models::Node& node = plan.graph->nodes()[plan.steps[s].node];
    const bool forward = plan.steps[s].kind == models::StepKind::kForward;
    const models::Kernel& kernel = *costs_[s].kernel;
    ops.push_back({node.scope, node.op->name(), forward ? "forward" : "backward",
                   kernel.implementation(), costs_[s].seconds / steps,
                   (forward ? kernel.forward_flops() : kernel.backward_flops()) *
                       static_cast<double>(num_local_)});
  }
  std::stable_sort(ops.begin(), ops.end(),
                   [](const OpCost& a, const OpCost& b) { return a.seconds > b.seconds; });
  return ops;
}

// Work of the update runs between the ops of a step, and is no part of theirs.
void BenchRun::optimizing(const char* what, const std::function<void()>& work) {
  const double start = steady_seconds();
  work();
  wait_if_watched();
  const double end = steady_seconds();
  optimizer_seconds_ += end - start;
  if (trace_ && (what || end - start > kShortestShown)) {
    trace_->add({TraceTrack::kUpdate, what ? what : "progress", start, end});
  }
}

void BenchRun::wait_if_watched() const {
  if (watched_ && !stream_.on_cpu()) stream_.synchronize();
}

void BenchRun::bucket_ready(int bucket) {
  optimizing(fmt::format("bucket {} ready", bucket).c_str(),
             [&] { optimizer_.bucket_ready(bucket); });
}

void BenchRun::bucket_needed(int bucket) {
  optimizing(fmt::format("bucket {} needed", bucket).c_str(),
             [&] { optimizer_.bucket_needed(bucket); });
}

void BenchRun::before(const models::PlanStep&, const models::Kernel&) {
  op_start_ = steady_seconds();
}

void BenchRun::after(const models::PlanStep& step, const models::Kernel& kernel) {
  wait_if_watched();
  const double end = steady_seconds();
  Cost& cost = costs_[static_cast<std::size_t>(&step - executable_.plan().steps.data())];
  cost.seconds += end - op_start_;
  cost.kernel = &kernel;
  if (trace_) {
    const models::Node& node = executable_.plan().graph->nodes()[step.node];
    trace_->add({TraceTrack::kCompute,
                 node.scope.empty() ? node.op->name() : node.scope + ": " + node.op->name(),
                 op_start_, end, step.kind == models::StepKind::kForward ? "forward" : "backward",
                 node.op->attributes()});
  }
  optimizing(nullptr, [&] { optimizer_.progress(); });
}

}  // namespace trainer
