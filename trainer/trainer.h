#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/progress.h"
#include "trainer/agree.h"
#include "trainer/data/loader.h"
#include "trainer/lock_step.h"
#include "trainer/network.h"
#include "trainer/optim/schedule.h"
#include "trainer/optim/sharded_optimizer.h"
#include "trainer/report/step_report.h"

namespace trainer {

// What the ranks decide together at the end of a step.
struct StepVotes {
  bool stop = false;  // somebody was asked to stop
  bool save = false;  // rank 0's clock says so
};

// One training run on one rank: the loop body, nothing around it.
class Trainer : private models::StepObserver {
 public:
  struct Parts {
    const Config& config;
    Network& network;
    ShardedOptimizer& optimizer;
    Loader& loader;
    comm::Communicator& communicator;
    comm::Progress& progress;
    RunLength length;
  };
  explicit Trainer(const Parts& parts);

  // One update from one global batch. Collective. `votes` in: this rank's, out: everybody's.
  // Errors, on every rank alike (AgreedError): kDiverged for a loss or gradient that is not finite,
  // naming step, layer and samples; whatever reading a sample threw on one of them.
  StepReport step(std::int64_t index, StepVotes& votes);

 private:
  struct MicroBatchLosses {
    std::vector<double> values;  // in the order of the graph's losses
  };
  // A micro-batch under computation.
  struct Running {
    models::Executable* executable = nullptr;
    std::vector<std::int64_t> samples;
    bool in_forward = false;
  };
  void begin(std::int64_t index);
  bool is_logged(std::int64_t index) const;
  void compute_one_by_one();
  void compute_together();
  void load(std::size_t slot);
  void keep_losses(const Running& running);
  void skip_micro_batch();
  std::vector<double> agree_on_step(StepVotes& votes);
  void agree_on_left_out(const std::vector<std::int64_t>& samples);
  StepReport describe(std::int64_t index, const std::vector<double>& losses);

  void bucket_ready(int bucket) override;
  void bucket_needed(int bucket) override;
  void before(const models::PlanStep& step, const models::Kernel& kernel) override;
  void after(const models::PlanStep& step, const models::Kernel& kernel) override;

  Parts parts_;
  std::vector<Running> slots_;  // one, or all of this rank with norm: sync
  std::size_t slot_ = 0;        // that runs
  std::optional<LockStep> lock_step_;
  std::vector<MicroBatchLosses> losses_;
  std::set<std::int64_t> left_out_;           // by on_error: skip, on any rank
  std::vector<std::int64_t> newly_left_out_;  // in this step
  Failure failure_;
  bool penalised_ = false;  // some decay is part of the loss
  std::int64_t index_ = 0, first_index_ = -1;
  std::int64_t version_ = 0;  // of the parameters
  StepSeconds seconds_;
  double last_end_ = 0;
};

}  // namespace trainer
