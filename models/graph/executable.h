#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comm/buffer.h"
#include "models/graph/plan.h"
#include "models/graph/step_graphs.h"

namespace models {

// The flat buffers of a run, shared by all its executables.
struct ParameterStorage {
  ParameterStorage(std::shared_ptr<const ParameterLayout> layout, comm::Device device);
  std::shared_ptr<const ParameterLayout> layout;
  comm::Buffer parameters;  // fp32, layout->parameter_elements
  comm::Buffer gradients;   // fp32, layout->gradient_elements
  Tensor parameter(const std::string& name) const;
  Tensor gradient(const std::string& name) const;
};

// What happens at the markers of a plan, and around its steps.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  virtual void bucket_ready(int /*bucket*/) {}
  virtual void bucket_needed(int /*bucket*/) {}
  // Called around each step of a run that launches its steps one by one: on a CPU, every run. On
  // CUDA, where most runs replay what was recorded, those whose observer says that it watches; it
  // may then be recording the run as a part of more.
  virtual bool watches_steps() const { return false; }
  virtual void before(const PlanStep& /*step*/, const Kernel& /*kernel*/) {}
  virtual void after(const PlanStep& /*step*/, const Kernel& /*kernel*/) {}
};

struct BindOptions {
  comm::Device device;
  comm::StreamView stream;
  bool direct_convolution = false;
  // Where this executable writes gradients, laid out as the storage's; null: the storage's.
  const comm::Buffer* gradients = nullptr;
  // What is found out once for all executables of one stream: library handles and convolution
  // engines. Null: every executable does it for itself. Outlives the executable.
  SharedState* engines = nullptr;
  // On CUDA, record the launches between two markers once and replay them. Off for debugging.
  bool capture = true;
};

// A value of this micro-batch that executables in lock-step merge (Op::synchronised).
struct SyncPoint {
  std::size_t step = 0;   // not run before the value is merged
  Tensor value;           // (3, C)
  bool gradient = false;  // of the moments
};

// A plan bound to a device: kernels compiled, offsets fixed, all memory allocated. Running it
// allocates nothing. ASYNC on CUDA, in the order of the stream.
class Executable {
 public:
  // `storage` must outlive the executable. Errors: kDevice when memory is short.
  Executable(Plan plan, ParameterStorage& storage, const BindOptions& options);
  ~Executable();
  Executable(const Executable&) = delete;
  Executable& operator=(const Executable&) = delete;

  // Walks the list once. `parameter_version` changes whenever parameters may have changed.
  void run(StepObserver& observer, std::int64_t parameter_version) {
    run(observer, parameter_version, 0, num_steps());
  }
  // Steps [begin, end) of the list alone: between the synchronised values of a lock-step. A run
  // begins at step 0 and is complete at the last; all runs cut the list at the same steps.
  void run(StepObserver& observer, std::int64_t parameter_version, std::size_t begin,
           std::size_t end);
  // Whether a run would launch what prepares weights, as it does where parameters changed. Two
  // watched runs that agree in this launch the same.
  bool prepares(std::int64_t parameter_version) const { return graphs_.changed(parameter_version); }
  // Instead of a run: a graph that the caller recorded of a watched run was launched.
  // REQUIRES: `prepares` answered as it did before that run.
  void repeated(std::int64_t parameter_version) { graphs_.repeated(parameter_version); }
  std::size_t num_steps() const { return plan_.steps.size(); }
  std::vector<SyncPoint> sync_points() const;  // in their order

  Tensor input(const std::string& name) const;   // null data: this graph has no such field
  Tensor output(const std::string& name) const;  // REQUIRES: a named output or loss of the graph
  // Losses of the run before, one float each, in the graph's order. ASYNC on CUDA.
  void copy_losses(std::span<std::byte> to) const;
  const Plan& plan() const { return plan_; }
  // Of a plan value, as it lies on the device now: others may share its memory. Null data: unused.
  const Tensor& tensor(int value) const { return tensors_[static_cast<std::size_t>(value)]; }
  std::int64_t arena_bytes() const { return arena_bytes_; }
  std::int64_t workspace_bytes() const { return workspace_bytes_; }
  // Sorted "scope: implementation" lines: recorded in the manifest.
  std::vector<std::string> implementations() const;
  // First value that is not finite after a run, as "scope (op)", or empty. Slow; for diagnosis.
  // REQUIRES: the run that is diagnosed ran with an observer that calls this after each step.
  std::string first_non_finite(const PlanStep& step) const;

 private:
  struct BoundStep;
  void allocate(const BindOptions& options, ParameterStorage& storage);
  void compile(const BindOptions& options);
  void bind_steps();
  void launch(StepObserver& observer, std::size_t begin, std::size_t end);
  Plan plan_;
  comm::StreamView stream_;
  StepGraphs graphs_;
  std::vector<Tensor> tensors_;  // per plan value
  std::vector<std::unique_ptr<Kernel>> kernels_;  // per node
  std::vector<BoundStep> steps_;
  SharedState shared_;
  comm::Buffer inputs_;
  comm::Buffer seeds_;
  comm::Buffer arena_;
  comm::Buffer workspace_;
  std::int64_t arena_bytes_ = 0;
  std::int64_t workspace_bytes_ = 0;
};

}  // namespace models
