#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "trainer/commands/bench.h"
#include "trainer/commands/step_trace.h"
#include "trainer/commands/timed_communicator.h"
#include "trainer/network.h"
#include "trainer/optim/schedule.h"
#include "trainer/optim/sharded_optimizer.h"
#include "trainer/step_capture.h"

namespace trainer {

struct BenchParts {
  comm::Communicator& communicator;  // for gradients and parameters
  comm::Progress& progress;
  RunLength length;
};

// Trainer::step without data, votes and reports: what a step costs, by op and by phase.
class BenchRun final : private models::StepObserver {
 public:
  BenchRun(const Config& config, Network& network, const BenchParts& parts);

  // Starts a step; on a CPU it is done then. settle: waits for it, and looks at its losses.
  // A GPU may be given one step before the one before it is settled.
  void launch(std::int64_t index);
  void settle(std::int64_t index);

  // From now on times are taken of each op, those so far are forgotten. On a GPU that waits for
  // every op, so the step as a whole is then slower than it is.
  void watch();
  void trace(StepTrace* trace) { trace_ = trace; }  // nullptr: no longer. REQUIRES: watched
  PhaseSeconds phases(int steps) const;             // of a step; `steps` have been watched
  std::vector<OpCost> ops(int steps) const;

  std::int64_t num_local_micro_batches() const { return num_local_; }
  const std::string& non_finite() const { return non_finite_; }

 private:
  struct Cost {
    double seconds = 0;
    const models::Kernel* kernel = nullptr;
  };
  struct Launched {
    explicit Launched(comm::Device device) : done(device) {}
    double start = 0;
    comm::Buffer losses;  // by micro-batch, then in the order of the graph's losses
    comm::Event done;
  };
  const std::vector<models::Graph::Named>& losses() const {
    return executable_.plan().graph->losses();
  }
  void compute(std::int64_t micro_batch);
  void optimizing(const char* what, const std::function<void()>& work);
  void wait_if_watched() const;
  void bucket_ready(int bucket) override;
  void bucket_needed(int bucket) override;
  bool watches_steps() const override { return watched_ || capture_.enabled(); }
  void before(const models::PlanStep& step, const models::Kernel& kernel) override;
  void after(const models::PlanStep& step, const models::Kernel& kernel) override;

  const Config& config_;
  const RunLength length_;
  comm::Progress& progress_;
  models::Executable& executable_;
  comm::StreamView stream_;
  TimedCommunicator timed_;
  ShardedOptimizer optimizer_;
  StepCapture capture_;  // as the trainer's; while nobody watches
  std::int64_t num_local_;
  comm::Buffer losses_;               // as Launched's, on the device, of the newest step
  std::array<Launched, 2> launched_;  // this step and the one before
  bool watched_;
  std::vector<Cost> costs_;  // of each step of the plan
  StepTrace* trace_ = nullptr;
  double optimizer_seconds_ = 0, communication_start_ = 0, op_start_ = 0;
  std::int64_t version_ = 0;
  std::string non_finite_;
};

// Seconds of the steady clock.
double steady_seconds();

}  // namespace trainer
