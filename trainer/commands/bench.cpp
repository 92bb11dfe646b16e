// ridgeline bench CONFIG
#include "trainer/commands/bench.h"

#include <fmt/format.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "comm/threads.h"
#include "trainer/agree.h"
#include "trainer/commands/bench_input.h"
#include "trainer/commands/bench_run.h"
#include "trainer/commands/data_facts.h"
#include "trainer/commands/parity.h"
#include "trainer/commands/process_clock.h"
#include "trainer/commands/synthetic_batch.h"
#include "trainer/commands/verbs.h"
#include "trainer/config/read.h"
#include "trainer/device.h"
#include "trainer/memory.h"
#include "trainer/report/append_file.h"
#include "trainer/weights.h"

namespace trainer {
namespace {

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

// Runs steps and calls `settled` after each.
class Walk {
 public:
  explicit Walk(BenchRun& run) : run_(run) {}

  // `ahead` steps are given to the device before one is waited for.
  void go(int steps, int ahead, const std::function<void()>& settled) {
    const std::int64_t last = next_ + steps;
    for (std::int64_t index = next_; index < last + ahead; ++index) {
      if (index < last) run_.launch(index);
      if (index - ahead < next_) continue;
      run_.settle(index - ahead);
      settled();
    }
    next_ = last;
  }

 private:
  BenchRun& run_;
  std::int64_t next_ = 0;
};

struct Conditions {
  int steps = 0;
  bool on_cpu = true;
  StepTrace* trace = nullptr;
};

// Warm-up, the steps that count, and on a GPU, where ops take part in recorded graphs then, a few
// more to see them one by one.
void take_times(BenchRun& run, const Conditions& conditions, BenchResult& result) {
  Walk walk(run);
  walk.go(1, 0, [&] { result.first_step_seconds = seconds_since_process_start(); });
  walk.go(kBenchWarmUp - 1, 0, [] {});
  const int steps = conditions.steps;
  const int traced = conditions.trace ? std::min(steps, kTracedSteps) : 0;
  std::vector<double> seconds;
  const double start = steady_seconds();
  double last = start;
  const auto lap = [&] {
    const double end = steady_seconds();
    seconds.push_back(end - last);
    last = end;
  };
  if (conditions.on_cpu) {
    run.watch();
    walk.go(steps - traced, 0, lap);
    run.trace(conditions.trace);
    walk.go(traced, 0, lap);
  } else {
    walk.go(steps, 1, lap);
  }
  result.step_p50_seconds = quantile(seconds, 0.5);
  result.step_p99_seconds = quantile(seconds, 0.99);
  result.images_per_second = result.batch * steps / (last - start);
  if (!conditions.on_cpu) {
    run.watch();
    run.trace(conditions.trace);
    walk.go(kTracedSteps, 0, [] {});
  }
  run.trace(nullptr);
  result.phases = run.phases(conditions.on_cpu ? steps : kTracedSteps);
  result.ops = run.ops(conditions.on_cpu ? steps : kTracedSteps);
}

// Rank 0 writes what all ranks did. Collective.
void write_trace(const StepTrace& trace, const std::string& path,
                 comm::Communicator& communicator) {
  const std::vector<std::string> ranks = communicator.all_gather(trace.events());
  agree(communicator, [&] {
    if (communicator.rank() == 0) write_file(path, trace_json(ranks));
  });
}

struct Options {
  ConfigArguments config;
  BenchOptions bench;
  bool json = false;
  bool input = false;
  bool parity = false;
};
constexpr int kParitySteps = 2;  // the second one from weights that both have updated

void run_input(const Config& config, const Options& options, const CommandContext& context) {
  const InputSpeed speed =
      run_input_bench(config, options.bench.steps, context.communicator, context.progress);
  if (!context.is_root()) return;
  std::fputs((options.json ? input_json(speed) : input_text(speed)).c_str(), stdout);
}

void run_parity_verb(const Config& config, const Options& options, const CommandContext& context) {
  const ParityResult result =
      run_parity(config, options.bench.steps, context.communicator, context.progress);
  std::fputs(to_text(result).c_str(), stdout);
  if (result.differing.empty()) return;
  comm::fail(comm::ExitCode::kBug, "bench --parity: CPU and GPU differ, first in {}",
             to_text(result.differing[0]));
}

void run_verb(const Options& options, const CommandContext& context) {
  const Config config = load_agreed_config(options.config, context.communicator).config;
  if (options.input) return run_input(config, options, context);
  if (options.parity) return run_parity_verb(config, options, context);
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
  progress.allow(config.runtime.stall_seconds);
  const int threads =
      config.runtime.threads > 0 ? config.runtime.threads : comm::default_threads(communicator);
  omp_set_num_threads(threads);
  const comm::Stream stream(choose_device(config.runtime, communicator), threads);
  if (options.floor && !stream.view().on_cpu()) {
    throw AgreedError(comm::ExitCode::kUsage,
                      "--floor times the convolutions of a CPU; set runtime.device=cpu");
  }
  const bool traced = !options.trace.empty();
  agree(communicator, [&] {  // a bad path ends here, not behind the measurement
    if (traced && communicator.rank() == 0) write_file(options.trace, trace_json({}));
  });
  communicator.barrier();  // the zero of all ranks' traces
  StepTrace trace(communicator.rank(), steady_seconds());
  BenchResult result = describe(config, communicator.size(), threads, options.steps);
  std::unique_ptr<Network> network;
  const NetworkOptions network_options{communicator.size(), true, common_tile(communicator)};
  agree(communicator, [&] {
    const int num_classes = required_num_classes(config);
    network = std::make_unique<Network>(config, num_classes, num_channels(config.data.format),
                                        stream, network_options);
    initialize(network->storage(), static_cast<std::uint64_t>(config.train.seed));
    const double start = steady_seconds();
    fill_synthetic(network->training(0), stream, num_classes);
    trace.add({TraceTrack::kData, "synthetic batch", start, steady_seconds()});
  });
  const auto bulk = bulk_communicator(config.runtime, communicator, stream);
  std::unique_ptr<BenchRun> run;
  agree(communicator, [&] {
    const RunLength length{options.steps + kBenchWarmUp + kTracedSteps};
    run = std::make_unique<BenchRun>(config, *network,
                                     BenchParts{bulk ? *bulk : communicator, progress, length});
  });
  take_times(*run, {options.steps, stream.view().on_cpu(), traced ? &trace : nullptr}, result);
  result.memory_peak_bytes = stream.view().on_cpu()
                                 ? peak_memory_bytes()
                                 : comm::peak_allocated_bytes(comm::DeviceKind::kCuda);
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
  if (traced) write_trace(trace, options.trace, communicator);
  return result;
}

void add_bench(CLI::App& app, const CommandContext& context) {
  auto* verb = app.add_subcommand("bench", "speed of the training step on synthetic input");
  verb->footer(
      "Example: ridgeline bench configs/retinanet_r18_fpn_shapes.yaml --steps 20 --floor\n"
      "Several data.size: the first. The floor is the sum of the step's convolutions, each "
      "alone.\n--input needs the data, all else none. --parity needs a GPU, and ends with 70 where "
      "an op differs.");
  auto options = std::make_shared<Options>();
  add_config_arguments(*verb, options->config);
  auto* steps = verb->add_option("--steps", options->bench.steps,
                                 "steps that count (default: 20; --parity: 2)")
                    ->check(CLI::Range(1, 1000000));
  auto* json = verb->add_flag("--json", options->json, "one JSON object on stdout");
  auto* input = verb->add_flag("--input", options->input,
                               "instead, read and decode the training data: images/s, also a core");
  auto* floor = verb->add_flag("--floor", options->bench.floor, "also time each convolution alone")
                    ->excludes(input);
  auto* trace = verb->add_option("--trace", options->bench.trace,
                                 "FILE for what the last 3 steps did when, for chrome://tracing or "
                                 "ui.perfetto.dev (on a GPU 3 more steps, op by op)")
                    ->excludes(input);
  verb->add_flag("--parity", options->parity,
                 "instead, compare every op of a GPU with that of a CPU, on equal input")
      ->excludes(input, json, floor, trace);
  verb->callback([=, &context] {
    if (options->parity && steps->count() == 0) options->bench.steps = kParitySteps;
    run_verb(*options, context);
  });
}

}  // namespace trainer
