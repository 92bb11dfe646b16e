#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/device.h"
#include "models/graph/graph.h"
#include "models/graph/parameter_layout.h"

namespace models {

// Where the memory of a plan value comes from.
enum class Storage : std::uint8_t {
  kInput,      // a field of the batch, written before each run in the type and layout of the value
  kParameter,  // the flat parameter buffer
  kGradient,   // the flat gradient buffer
  kArena,      // shared by values whose lifetimes do not overlap
  kSeed,       // constant gradient of a loss term, written once
};

// What activations and their gradients are stored in; parameters, their gradients, losses and all
// sums are fp32 or wider with either.
enum class Precision : std::uint8_t { kFp32, kBf16 };

struct PlanValue {
  std::string name;
  ValueSpec spec;
  Layout layout = Layout::kPlain;
  Storage storage = Storage::kArena;
  int parameter = -1;       // index into the graph's parameters, for kParameter and kGradient
  float seed = 0.0f;        // kSeed
  int first = -1;           // steps of the first and the last use; -1: unused
  int last = -1;
  std::int64_t offset = 0;  // kArena: logical byte offset (no padding channels)
};

enum class StepKind : std::uint8_t {
  kForward,
  kBackward,
  kBucketReady,   // all gradients of a bucket are written
  kBucketNeeded,  // its parameters are about to be read
};

// One entry of the ordered list that an executor walks. Value ids index Plan::values, -1 = absent.
struct PlanStep {
  StepKind kind = StepKind::kForward;
  int node = -1;    // kForward, kBackward
  int bucket = -1;  // markers
  int stream = 0;
  std::vector<int> inputs, outputs, doutputs, dinputs;
  std::vector<GradientMode> modes;
};

// How a graph is computed: ordered steps, storage, buckets, for one device kind and one input
// shape. Needs neither device nor data, so it can be printed, compared and priced anywhere.
struct Plan {
  std::shared_ptr<const Graph> graph;  // after fusion and layout
  comm::DeviceKind device = comm::DeviceKind::kCpu;
  int ranks = 1;
  bool training = false;
  std::shared_ptr<const ParameterLayout> layout;
  std::vector<PlanValue> values;  // the graph's values by id, then their gradients
  std::vector<int> gradient_of;   // per graph value: plan value of its gradient, or -1
  std::vector<PlanStep> steps;
  std::int64_t arena_bytes = 0;  // logical
};

struct PlanOptions {
  comm::DeviceKind device = comm::DeviceKind::kCpu;
  int ranks = 1;
  bool training = true;
  // Layout of the run's parameters; absent: this plan defines it. Shape buckets and evaluation
  // share the layout of the first training plan.
  std::shared_ptr<const ParameterLayout> layout;
  Precision precision = Precision::kFp32;  // kBf16 needs kCuda: CPUs compute in fp32
  // Side of the tiles that weights of convolutions lie in (weight_tiles.h), for kCpu: the same on
  // all ranks, which exchange them as they lie. Without `layout`.
  int tile = 1;
  std::vector<std::string> disabled_fusions;  // names of consumers that are not absorbed
};

// The chain: fuse -> layout -> differentiate -> bucket -> schedule -> place.
Plan plan(const Graph& graph, const PlanOptions& options);

// The passes, each in its own file.
Graph fuse(const Graph& graph, std::span<const std::string> disabled);
struct LaidOutGraph {
  Graph graph;  // with reorders where neighbours disagree
  std::vector<Layout> layouts;  // per value
  std::vector<Type> types;      // per value, as it is stored
};
LaidOutGraph choose_layouts(const Graph& graph, Precision precision = Precision::kFp32);
Plan differentiate(LaidOutGraph laid_out, const PlanOptions& options);
Plan assign_buckets(Plan plan, const PlanOptions& options);
Plan schedule(Plan plan);
Plan place(Plan plan);

// Offsets in one arena for values with inclusive lifetimes [first, last]; returns its size.
// Largest first, lowest free offset; deterministic.
struct Interval {
  std::int64_t bytes;
  int first;
  int last;
  std::int64_t offset = 0;
};
std::int64_t place_intervals(std::span<Interval> intervals);

// The printed plan: a pure function of the plan, the golden text of tests.
std::string to_text(const Plan& plan);

}  // namespace models
