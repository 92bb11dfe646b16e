#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "comm/stream.h"
#include "comm/work_graph.h"

namespace models {

// How the launches of an executable reach the device, run by run: one by one, recorded into graphs
// (comm::WorkGraph), or as the graphs of an earlier run. The first run is never recorded, so that
// whatever starts lazily has started.
// Kernels prepare weights when the parameters have changed and skip that otherwise, so a run that
// follows a change launches more than one that does not: each has graphs of its own. A kernel knows
// by the version it is given; it sees none while graphs are replayed. Invariant: between runs, what
// the kernels prepared last on the device is right for `last_`, and the version they saw last is
// `kernel_version_`.
class StepGraphs {
 public:
  // Without `enabled` all runs launch one by one.
  StepGraphs(comm::StreamView stream, bool enabled) : stream_(stream), enabled_(enabled) {}

  // Begins a run, and decides how it goes. `plain`: launched one by one, this time.
  void begin(std::int64_t parameter_version, bool plain);
  // Whether the next run, of this version, launches what prepares weights.
  bool changed(std::int64_t parameter_version) const { return last_ != parameter_version; }
  // A plain run that somebody recorded was repeated with this version.
  // REQUIRES: `changed` answered as it did before the run that was recorded.
  void repeated(std::int64_t parameter_version) { last_ = parameter_version; }
  bool plain() const { return mode_ == Mode::kPlain; }
  // What kernels are given as the version of the parameters in this run.
  std::int64_t kernel_version() const { return kernel_version_; }
  // Steps [begin, end), which `work` launches. REQUIRES: a run cuts the steps as the others do.
  void run(std::size_t begin, std::size_t end, const std::function<void()>& work);
  // The run is complete. Without it, an exception came between, the next one prepares anew.
  void end();

 private:
  enum class Mode { kPlain, kRecord, kReplay };
  struct Graphs {
    std::map<std::pair<std::size_t, std::size_t>, comm::WorkGraph> of;  // by range of steps
    bool complete = false;
  };

  comm::StreamView stream_;
  bool enabled_;
  bool started_ = false;              // a run was completed
  std::optional<std::int64_t> last_;  // parameter version of the last run; none: not complete
  std::int64_t running_ = 0;
  std::int64_t kernel_version_ = 0;
  Mode mode_ = Mode::kPlain;
  Graphs changed_, unchanged_;
  Graphs* graphs_ = nullptr;  // of this run
};

}  // namespace models
