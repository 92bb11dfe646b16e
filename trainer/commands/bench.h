#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/progress.h"
#include "trainer/commands/bench_floor.h"
#include "trainer/config/config.h"

namespace trainer {

struct BenchOptions {
  int steps = 20;      // counted; kBenchWarmUp more come first
  bool floor = false;  // also time each convolution alone
  std::string trace;   // file for kTracedSteps of the steps, see StepTrace; empty: none
};
inline constexpr int kBenchWarmUp = 3;
inline constexpr int kTracedSteps = 3;

// Seconds of one step by what was going on, on rank 0, mean over the counted steps.
struct PhaseSeconds {
  double forward = 0;
  double backward = 0;
  double update = 0;         // trees of gradients, decay, rule, EMA
  double communication = 0;  // inside the communicator: starting, driving, waiting
};

// One op in one pass, summed over the micro-batches of a step.
struct OpCost {
  std::string scope, op, pass, implementation;
  double seconds = 0;  // a step
  double flops = 0;    // a step; 0: not counted
};

struct BenchResult {
  std::string name;
  int batch = 0, micro_batch = 0, height = 0, width = 0;
  int ranks = 1, threads = 1;
  int steps = 0;
  double images_per_second = 0;  // of all ranks
  double step_p50_seconds = 0, step_p99_seconds = 0;
  double first_step_seconds = 0;       // from the start of the process to the end of the first step
  std::int64_t memory_peak_bytes = 0;  // resident, of the rank that needs most
  PhaseSeconds phases;
  std::vector<OpCost> ops;          // costliest first
  std::string non_finite;           // the first loss that was not; empty: all were
  std::optional<FloorTimes> floor;  // of one step of rank 0
};

// Trains on a constant random micro-batch of the first data.size and takes the time. Collective.
// Errors: kConfig naming the key that says the number of classes.
BenchResult run_bench(const Config& config, const BenchOptions& options,
                      comm::Communicator& communicator, comm::Progress& progress);

std::string bench_text(const BenchResult& result);
std::string bench_json(const BenchResult& result);

// Value at a share of the sorted list, nearest rank. REQUIRES: not empty, 0 < share <= 1.
double quantile(std::vector<double> values, double share);

}  // namespace trainer
