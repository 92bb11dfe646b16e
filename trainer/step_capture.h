#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "comm/work_graph.h"
#include "models/graph/executable.h"
#include "trainer/config/config.h"
#include "trainer/optim/sharded_optimizer.h"

namespace trainer {

// Whether the whole step is recorded: it launches the same every time and the host need not look.
// Otherwise, which is several ranks, LARS and norm: sync, the executables record what lies between
// their markers.
bool captures_steps(const Config& config, comm::StreamView stream,
                    const ShardedOptimizer& optimizer);

// What the micro-batches of a step launch behind their inputs, each as one comm::WorkGraph: the
// first time it is launched as it comes (what starts lazily starts), the second time recorded, and
// from then on launched again. For steps that neither wait for the device nor for other ranks.
class StepCapture {
 public:
  // Micro-batches that differ in one of these launch other work.
  struct Kind {
    const models::Executable* executable;  // of its size
    std::int64_t place;                    // in the step: sums with what came before
    bool reports;                          // the update behind it measures norms
    bool prepares;                         // Executable::prepares
    auto operator<=>(const Kind&) const = default;
  };

  // Without `enabled` nothing is ever recorded.
  StepCapture(comm::StreamView stream, bool enabled) : stream_(stream), enabled_(enabled) {}

  // `work` then runs its executable with an observer that watches (models::StepObserver).
  bool enabled() const { return enabled_; }
  // Launches what `work` launches for this kind of micro-batch. False: without calling it, so the
  // caller notes what the call would have changed on the host. Errors: those of `work`, and kDevice
  // where it cannot be recorded; it is then as if this had not been called.
  bool launch(const Kind& kind, const std::function<void()>& work);

 private:
  comm::StreamView stream_;
  bool enabled_;
  std::map<Kind, std::optional<comm::WorkGraph>> graphs_;  // none: launched once
};

}  // namespace trainer
