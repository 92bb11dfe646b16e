#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "comm/communicator.h"
#include "comm/heartbeat.h"
#include "comm/signals.h"

// A training loop without training, for fault_test.cpp to hurt:
//   fault_program STEPS LIMIT_MS FAULT RANK
// At step 20 rank RANK does FAULT: none, kill, stop, stuck, long, throw, abort, signal.
namespace comm {
namespace {

using std::chrono::milliseconds;

struct Plan {
  int num_steps;
  milliseconds limit;
  std::string_view fault;
  int rank;
};

void hurt(const Plan& plan, Communicator& world, Progress& progress) {
  if (plan.fault == "kill") std::raise(SIGKILL);
  if (plan.fault == "stop") std::raise(SIGSTOP);
  if (plan.fault == "stuck") std::this_thread::sleep_for(std::chrono::hours(1));
  if (plan.fault == "signal") std::raise(SIGUSR1);
  if (plan.fault == "throw") fail(ExitCode::kData, "bad image");
  if (plan.fault == "abort") world.abort(ExitCode::kDiverged);
  if (plan.fault == "long") {
    progress.publish(Phase::kCheckpoint, 20);
    std::this_thread::sleep_for(3 * plan.limit);
  }
}

ExitCode train(const Plan& plan, Communicator& world) {
  const StopSignals signals;
  Progress progress;
  const Heartbeat heartbeat(world, progress, {plan.limit, 20 * plan.limit, {}});
  for (int step = 0; step < plan.num_steps; ++step) {
    progress.publish(Phase::kStep, step);
    if (step == 20 && world.rank() == plan.rank) hurt(plan, world, progress);
    std::this_thread::sleep_for(milliseconds(2));
    std::int64_t stop = signals.requested();
    const Progress::Waiting waiting(progress);
    world.all_reduce(std::span(&stop, 1), Reduction::kMax);
    if (stop != 0) return ExitCode::kStopped;
    if (step == 10 && world.rank() == 0) std::puts("running");
    std::fflush(stdout);
  }
  return ExitCode::kDone;
}

}  // namespace
}  // namespace comm

int main(int argc, char** argv) {
  if (argc != 5) return 64;
  const comm::Plan plan{std::atoi(argv[1]), comm::milliseconds(std::atoi(argv[2])), argv[3],
                        std::atoi(argv[4])};
  try {
    const auto world = comm::launch_communicator(&argc, &argv);
    return static_cast<int>(comm::train(plan, *world));
  } catch (const comm::Error& error) {
    std::fprintf(stderr, "error[%d]: %s\n", static_cast<int>(error.code()), error.what());
    return static_cast<int>(error.code());
  }
}
