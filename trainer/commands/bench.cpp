// ridgeline bench CONFIG
#include "trainer/commands/bench.h"

#include <fmt/format.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "comm/threads.h"
#include "trainer/agree.h"
#include "trainer/commands/data_facts.h"
#include "trainer/commands/process_clock.h"
#include "trainer/commands/synthetic_batch.h"
#include "trainer/commands/timed_communicator.h"
#include "trainer/commands/verbs.h"
#include "trainer/config/read.h"
#include "trainer/device.h"
#include "trainer/memory.h"
#include "trainer/network.h"
#include "trainer/optim/schedule.h"
#include "trainer/optim/sharded_optimizer.h"
#include "trainer/weights.h"

namespace trainer {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Trainer::step without data, votes and reports: what a step costs, by op and by phase.
class BenchRun final : private models::StepObserver {
 public:
  BenchRun(const Config& config, Network& network, comm::Communicator& communicator,
           comm::StreamView stream)
      : config_(config),
        executable_(network.training(0)),
        timed_(communicator),
        optimizer_(network.storage(), timed_, stream,
                   {config.optimizer, config.regularization, config.clip, config.ema,
                    config.train.batch / config.train.micro_batch,
                    config.runtime.reduction != Reduction::kFast}),
        num_local_(micro_batches_of(config.train.batch / config.train.micro_batch,
                                    communicator.rank(), communicator.size())
                       .count()),
        costs_(executable_.plan().steps.size()) {}

  void step(std::int64_t index, const RunLength& length, comm::Progress& progress) {
    StepValues values;
    values.step = index;
    values.lr_factor = learning_rate_factor(config_.schedule, index, length);
    values.lr = config_.optimizer.lr * values.lr_factor;
    optimizing([&] { optimizer_.begin_step(values); });
    for (std::int64_t m = 0; m < num_local_; ++m) {
      progress.publish(comm::Phase::kStep, index);
      executable_.run(*this, version_);
      check_losses(index);
    }
    optimizing([&] { optimizer_.finish_updates(); });
    ++version_;
  }

  void forget_times() {
    std::fill(costs_.begin(), costs_.end(), Cost{});
    optimizer_seconds_ = 0;
    communication_start_ = timed_.seconds();
  }

  std::int64_t num_local_micro_batches() const { return num_local_; }
  const std::string& non_finite() const { return non_finite_; }

  PhaseSeconds phases(int steps) const {
    PhaseSeconds phases;
    for (std::size_t s = 0; s < costs_.size(); ++s) {
      const bool forward = executable_.plan().steps[s].kind == models::StepKind::kForward;
      (forward ? phases.forward : phases.backward) += costs_[s].seconds / steps;
    }
    phases.communication = (timed_.seconds() - communication_start_) / steps;
    phases.update = std::max(0.0, optimizer_seconds_ / steps - phases.communication);
    return phases;
  }

  std::vector<OpCost> ops(int steps) const {
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

 private:
  struct Cost {
    double seconds = 0;
    const models::Kernel* kernel = nullptr;
  };

  template <typename Work>
  void optimizing(Work work) {
    const double start = now();
    work();
    optimizer_seconds_ += now() - start;
  }

  void check_losses(std::int64_t index) {
    for (const auto& loss : executable_.plan().graph->losses()) {
      const float value = executable_.output(loss.name).f32()[0];
      if (std::isfinite(value) || !non_finite_.empty()) continue;
      non_finite_ = fmt::format("loss {} is {} at step {}", loss.name, value, index + 1);
    }
  }

  void bucket_ready(int bucket) override {
    optimizing([&] { optimizer_.bucket_ready(bucket); });
  }
  void bucket_needed(int bucket) override {
    optimizing([&] { optimizer_.bucket_needed(bucket); });
  }
  void before(const models::PlanStep&, const models::Kernel&) override { op_start_ = now(); }
  void after(const models::PlanStep& step, const models::Kernel& kernel) override {
    Cost& cost = costs_[static_cast<std::size_t>(&step - executable_.plan().steps.data())];
    cost.seconds += now() - op_start_;
    cost.kernel = &kernel;
    optimizing([&] { optimizer_.progress(); });
  }

  const Config& config_;
  models::Executable& executable_;
  TimedCommunicator timed_;
  ShardedOptimizer optimizer_;
  std::int64_t num_local_;
  std::vector<Cost> costs_;  // of each step of the plan
  double optimizer_seconds_ = 0, communication_start_ = 0, op_start_ = 0;
  std::int64_t version_ = 0;
  std::string non_finite_;
};

void require_micro_batch_per_rank(const Config& config, int ranks) {
  const int total = config.train.batch / config.train.micro_batch;
  if (ranks <= total) return;
  throw AgreedError(
      comm::ExitCode::kConfig,
      fmt::format("train: {} ranks share {} micro-batches; use at most {} ranks, or a "
                  "smaller train.micro_batch (now {}) or a larger train.batch",
                  ranks, total, total, config.train.micro_batch));
}

BenchResult describe(const Config& config, int ranks, int threads, int steps) {
  BenchResult result;
  result.name = config.name;
  result.batch = config.train.batch;
  result.micro_batch = config.train.micro_batch;
  result.height = config.data.size[0].height;
  result.width = config.data.size[0].width;
  result.ranks = ranks;
  result.threads = threads;
  result.steps = steps;
  return result;
}

// The steps, warm-up first.
void take_times(BenchRun& run, int steps, comm::Progress& progress, BenchResult& result) {
  const RunLength length{steps + kBenchWarmUp};
  std::vector<double> seconds;
  double total = 0;
  for (int index = 0; index < steps + kBenchWarmUp; ++index) {
    if (index == kBenchWarmUp) run.forget_times();
    const double start = now();
    run.step(index, length, progress);
    const double taken = now() - start;
    if (index == 0) result.first_step_seconds = seconds_since_process_start();
    if (index < kBenchWarmUp) continue;
    seconds.push_back(taken);
    total += taken;
  }
  result.step_p50_seconds = quantile(seconds, 0.5);
  result.step_p99_seconds = quantile(seconds, 0.99);
  result.images_per_second = result.batch * steps / total;
  result.phases = run.phases(steps);
  result.ops = run.ops(steps);
}

struct Options {
  ConfigArguments config;
  BenchOptions bench;
  bool json = false;
};

void run_verb(const Options& options, const CommandContext& context) {
  const Config config = load_agreed_config(options.config, context.communicator).config;
  const BenchResult result =
      run_bench(config, options.bench, context.communicator, context.progress);
  if (!context.is_root()) return;
  if (options.json && !result.non_finite.empty()) {
    std::fprintf(stderr, "%s\n", result.non_finite.c_str());
  }
  std::fputs((options.json ? bench_json(result) : bench_text(result)).c_str(), stdout);
}

}  // namespace

double quantile(std::vector<double> values, double share) {
  REQUIRE(!values.empty() && share > 0 && share <= 1, "{} of {} values", share, values.size());
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(share * static_cast<double>(values.size()));
  return values[static_cast<std::size_t>(rank) - 1];
}

BenchResult run_bench(const Config& given, const BenchOptions& options,
                      comm::Communicator& communicator, comm::Progress& progress) {
  Config config = given;
  config.data.size.resize(1);  // one shape: other sizes would only add their memory
  require_micro_batch_per_rank(config, communicator.size());
  progress.allow_step(config.runtime.stall_seconds);
  const int threads =
      config.runtime.threads > 0 ? config.runtime.threads : comm::default_threads(communicator);
  omp_set_num_threads(threads);
  const comm::Stream stream(choose_device(config.runtime, communicator), threads);
  BenchResult result = describe(config, communicator.size(), threads, options.steps);
  std::unique_ptr<Network> network;
  std::unique_ptr<BenchRun> run;
  agree(communicator, [&] {
    const int num_classes = required_num_classes(config);
    network = std::make_unique<Network>(config, num_classes, num_channels(config.data.format),
                                        stream, communicator.size(), true);
    initialize(network->storage(), static_cast<std::uint64_t>(config.train.seed));
    fill_synthetic(network->training(0), num_classes);
    run = std::make_unique<BenchRun>(config, *network, communicator, stream);
  });
  take_times(*run, options.steps, progress, result);
  result.memory_peak_bytes = peak_memory_bytes();
  communicator.all_reduce(std::span<std::int64_t>(&result.memory_peak_bytes, 1),
                          comm::Reduction::kMax);
  for (const std::string& line : communicator.all_gather(run->non_finite())) {
    if (result.non_finite.empty()) result.non_finite = line;
  }
  if (options.floor) {
    agree(communicator, [&] {
      const auto alive = [&] { progress.publish(comm::Phase::kEnd, 0); };
      FloorTimes floor = floor_of(network->training(0).plan(), alive);
      floor.seconds *= static_cast<double>(run->num_local_micro_batches());
      floor.direct_seconds *= static_cast<double>(run->num_local_micro_batches());
      result.floor = floor;
    });
  }
  return result;
}

void add_bench(CLI::App& app, const CommandContext& context) {
  auto* verb = app.add_subcommand("bench", "speed of the training step on synthetic input");
  verb->footer(
      "Example: ridgeline bench configs/retinanet_r18_fpn_shapes.yaml --steps 20 --floor\n"
      "Several data.size: the first. The floor is the sum of the step's convolutions, each "
      "alone.");
  auto options = std::make_shared<Options>();
  add_config_arguments(*verb, options->config);
  verb->add_option("--steps", options->bench.steps, "steps that count (default: 20)")
      ->check(CLI::Range(1, 1000000));
  verb->add_flag("--json", options->json, "one JSON object on stdout");
  verb->add_flag("--floor", options->bench.floor, "also time each convolution alone");
  verb->callback([=, &context] { run_verb(*options, context); });
}

}  // namespace trainer
