#pragma once

#include <array>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/progress.h"
#include "trainer/agree.h"
#include "trainer/data/loader.h"
#include "trainer/feed.h"
#include "trainer/lock_step.h"
#include "trainer/network.h"
#include "trainer/optim/schedule.h"
#include "trainer/optim/sharded_optimizer.h"
#include "trainer/report/step_report.h"
#include "trainer/step_capture.h"

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
  // Reports of the steps whose results the host knows now, in their order: on a CPU of this one; on
  // a GPU, which computes it still, of the one before, unless this one is logged.
  // Errors, on every rank alike (AgreedError): kDiverged for a loss or gradient that is not finite,
  // naming step, layer and samples; whatever reading a sample threw on one of them.
  std::vector<StepReport> step(std::int64_t index, StepVotes& votes);
  // Of the step that is still computed, if any: before whatever must not follow a step that
  // diverged. Collective. Errors: as `step`.
  std::vector<StepReport> flush();

 private:
  // A micro-batch under computation.
  struct Running {
    models::Executable* executable = nullptr;
    std::vector<std::int64_t> samples;
    bool in_forward = false;
  };
  // A step that was launched, and what the host will know of it. ASYNC: `losses` and `verdict` from
  // `done` on.
  struct Launched {
    explicit Launched(comm::Device device) : done(device) {}
    std::int64_t index = -1;     // -1: none
    comm::Buffer losses;         // by micro-batch, then in the order of the graph's losses
    std::size_t num_losses = 0;  // in the buffer
    comm::Buffer verdict;        // ShardedOptimizer::fetch_verdict
    comm::Event done;
    StepSeconds seconds;
    std::span<const float> values() const { return losses.as<float>().first(num_losses); }
  };
  void begin(std::int64_t index);
  void launch(std::int64_t index);
  StepReport settle(Launched& launched, StepVotes& votes);
  bool is_logged(std::int64_t index) const;
  bool is_measured(std::int64_t index) const;
  void compute_one_by_one();
  void compute(std::int64_t micro_batch);
  void compute_together();
  void load(std::size_t slot);
  void keep_losses(const Running& running, std::int64_t micro_batch);
  struct BadLoss {
    std::int64_t index;  // of the step
    std::size_t loss;
    float value;
  };
  void diverged(const BadLoss& bad, const std::string& first,
                const std::vector<std::int64_t>& samples);
  void check_losses(const Launched& launched);
  void skip_micro_batch();
  std::vector<std::string> gather(const std::string& mine);
  std::vector<double> agree_on_step(const Launched& launched, StepVotes& votes);
  void agree_on_left_out(const std::vector<std::int64_t>& samples);
  StepReport describe(const Launched& launched, const std::vector<double>& losses);

  void bucket_ready(int bucket) override;
  void bucket_needed(int bucket) override;
  bool watches_steps() const override { return capture_.enabled(); }
  void before(const models::PlanStep& step, const models::Kernel& kernel) override;
  void after(const models::PlanStep& step, const models::Kernel& kernel) override;

  Parts parts_;
  std::vector<Running> slots_;  // one, or all of this rank with norm: sync
  std::size_t slot_ = 0;        // that runs
  std::optional<LockStep> lock_step_;
  StepCapture capture_;
  Feeder feeder_;
  std::size_t num_losses_;                    // of a micro-batch
  comm::Buffer losses_;                       // as Launched's, on the device, of the newest step
  std::array<Launched, 2> launched_;          // this step and the one before
  std::set<std::int64_t> left_out_;           // by on_error: skip, on any rank
  std::vector<std::int64_t> newly_left_out_;  // in this step
  Failure failure_;
  bool penalised_ = false;  // some decay is part of the loss
  std::int64_t index_ = 0, first_index_ = -1;
  std::int64_t version_ = 0;  // of the parameters
  StepSeconds seconds_;       // of the step that is launched
  double last_end_ = 0;
};

}  // namespace trainer
