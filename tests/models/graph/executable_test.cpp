#include "models/graph/executable.h"

#include <cmath>

#include "tests/models/graph/graph_fixture.h"

namespace models::testing {
namespace {

const Shape kShape = {1, 4, 2, 2};

class Recorder final : public StepObserver {
 public:
  explicit Recorder(Executable* watched = nullptr) : watched_(watched) {}
  void bucket_ready(int bucket) override { log += "r" + std::to_string(bucket) + " "; }
  void bucket_needed(int bucket) override { log += "n" + std::to_string(bucket) + " "; }
  void before(const PlanStep&, const Kernel&) override { log += "<"; }
  void after(const PlanStep& step, const Kernel&) override {
    log += "> ";
    if (watched_ && diagnosis.empty()) diagnosis = watched_->first_non_finite(step);
  }
  std::string log, diagnosis;

 private:
  Executable* watched_;
};

struct Bound {
  explicit Bound(const Graph& graph, bool training = true)
      : Bound(plan(graph, {.training = training})) {}
  explicit Bound(Plan p)
      : storage(p.layout, comm::Device{}),
        executable(std::move(p), storage, {comm::Device{}, stream.view()}) {}
  comm::Stream stream{comm::Device{}, 1};
  ParameterStorage storage;
  Executable executable;
};

// y = x + w; z = y + y; loss = 0.5 sum z
Graph small() {
  Graph graph;
  const Value x = graph.input("x", {Type::kF32, kShape});
  Graph::Scope scope(graph, "layer");
  const Value y = apply(graph, "add", {x, weight(graph, "w", kShape)});
  const Value z = apply(graph, "double", {y, y});
  graph.output("z", z);
  sum_loss(graph, "loss", z, 0.5f);
  return graph;
}

TEST(Executable, ComputesValuesAndGradients) {
  Bound b(small());
  for (int i = 0; i < 16; ++i) {
    b.executable.input("x").f32()[i] = static_cast<float>(i);
    b.storage.parameter("w").f32()[i] = 100.0f;
  }
  Recorder recorder;
  b.executable.run(recorder, 1);
  EXPECT_EQ(b.executable.output("z").f32()[3], 206.0f);
  EXPECT_EQ(b.executable.output("loss").f32()[0], 2 * (1600.0f + 120.0f));
  for (int i = 0; i < 16; ++i) EXPECT_EQ(b.storage.gradient("w").f32()[i], 1.0f);  // 0.5 * 2
  EXPECT_EQ(recorder.log, "n0 <> <> <> <> <> <> r0 ");
  b.executable.run(recorder, 2);  // gradients are overwritten, not summed
  EXPECT_EQ(b.storage.gradient("w").f32()[0], 1.0f);
}

TEST(Executable, NamesThatDoNotExist) {
  Bound b(small());
  EXPECT_EQ(b.executable.input("boxes").data, nullptr);
  EXPECT_THROW(b.executable.output("nothing"), comm::Error);
  EXPECT_THROW(b.storage.parameter("nothing"), comm::Error);
}

TEST(Executable, UntrainedTensorsHaveNoGradient) {
  Graph graph;
  const Value frozen = weight(graph, "frozen", kShape, false);
  sum_loss(graph, "loss", apply(graph, "add", {frozen, weight(graph, "w", kShape)}));
  Bound b(graph);
  EXPECT_NO_THROW(b.storage.gradient("w"));
  EXPECT_THROW(b.storage.gradient("frozen"), comm::Error);
}

TEST(Executable, FindsTheFirstValueThatIsNotFinite) {
  Bound b(small());
  Recorder healthy(&b.executable);
  b.executable.run(healthy, 1);
  EXPECT_EQ(healthy.diagnosis, "");
  b.storage.parameter("w").f32()[5] = NAN;
  Recorder sick(&b.executable);
  b.executable.run(sick, 2);
  EXPECT_EQ(sick.diagnosis, "layer (add)");
}

TEST(Executable, TwoPlansShareParameters) {
  const Plan training = plan(small(), {});
  PlanOptions options;
  options.training = false;
  options.layout = training.layout;
  ParameterStorage storage(training.layout, comm::Device{});
  comm::Stream stream{comm::Device{}, 1};
  Executable first(training, storage, {comm::Device{}, stream.view()});
  Executable second(plan(small(), options), storage, {comm::Device{}, stream.view()});
  storage.parameter("w").f32()[0] = 5.0f;
  Recorder recorder;
  second.run(recorder, 1);
  EXPECT_EQ(second.output("z").f32()[0], 10.0f);
  EXPECT_LT(second.arena_bytes(), first.arena_bytes());
  EXPECT_EQ(recorder.log, "<> <> <> ");  // no markers at inference
}

TEST(Executable, ReservesNoMoreThanThePlan) {
  Bound b(small());
  EXPECT_EQ(b.executable.arena_bytes(), b.executable.plan().arena_bytes);
  EXPECT_EQ(b.executable.workspace_bytes(), 0);
}

TEST(PlanText, IsAFunctionOfThePlan) {
  const Plan p = plan(small(), {.ranks = 2});
  const std::string text = to_text(p);
  EXPECT_EQ(text, to_text(plan(small(), {.ranks = 2})));
  EXPECT_NE(text.find("plan: training on cpu, 2 ranks"), std::string::npos);
  EXPECT_NE(text.find("layer: double"), std::string::npos);
  EXPECT_NE(text.find("comm     ready  bucket 0"), std::string::npos);
}

}  // namespace
}  // namespace models::testing
