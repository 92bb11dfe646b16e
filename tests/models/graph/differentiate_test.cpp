#include "tests/models/graph/graph_fixture.h"

namespace models::testing {
namespace {

const Shape kShape = {1, 8, 4, 4};
using Mode = GradientMode;

Plan derive(const Graph& graph, bool training = true) {
  PlanOptions options;
  options.training = training;
  return differentiate(choose_layouts(graph), options);
}

struct Fixture {
  Graph graph;
  Value x = graph.input("x", {Type::kF32, kShape});
};

TEST(Differentiate, BackwardRunsInReverse) {
  Fixture f;
  const Value a = apply(f.graph, "a", {f.x, weight(f.graph, "wa", kShape)});
  sum_loss(f.graph, "loss", apply(f.graph, "b", {a, weight(f.graph, "wb", kShape)}));
  EXPECT_EQ(order(derive(f.graph)), "f:a f:b f:sum b:sum b:b b:a");
  EXPECT_EQ(order(derive(f.graph, false)), "f:a f:b f:sum");
}

TEST(Differentiate, FirstWriterOverwritesLaterOnesAccumulate) {
  Fixture f;
  const Value w = weight(f.graph, "w", kShape);
  const Value a = apply(f.graph, "a", {w});
  const Value b = apply(f.graph, "b", {a});
  const Value c = apply(f.graph, "c", {a, a});
  sum_loss(f.graph, "loss", apply(f.graph, "add", {b, c}));
  const Plan plan = derive(f.graph);
  EXPECT_EQ(backward_of(plan, "c")->modes, (std::vector{Mode::kOverwrite, Mode::kAccumulate}));
  EXPECT_EQ(backward_of(plan, "b")->modes, std::vector{Mode::kAccumulate});
  EXPECT_EQ(backward_of(plan, "a")->modes, std::vector{Mode::kOverwrite});
  EXPECT_EQ(backward_of(plan, "c")->dinputs[0], backward_of(plan, "b")->dinputs[0]);
  const int dw = backward_of(plan, "a")->dinputs[0];
  EXPECT_EQ(plan.values[dw].storage, Storage::kGradient);
  EXPECT_EQ(plan.values[dw].parameter, 0);
}

TEST(Differentiate, EachGradientIsWrittenBeforeItIsRead) {
  Fixture f;
  Value y = f.x;
  for (int i = 0; i < 6; ++i) {
    const Value branch =
        apply(f.graph, "conv", {y, weight(f.graph, std::to_string(i % 3), kShape)});
    y = apply(f.graph, "add", {branch, y});
  }
  sum_loss(f.graph, "one", y);
  sum_loss(f.graph, "two", y, 2.0f);
  const Plan plan = derive(f.graph);
  std::vector<bool> written(plan.values.size(), false);
  for (const PlanStep& step : plan.steps) {
    if (step.kind != StepKind::kBackward) continue;
    for (int d : step.doutputs) {
      if (d < 0) continue;
      EXPECT_TRUE(written[d] || plan.values[d].storage == Storage::kSeed);
    }
    for (std::size_t i = 0; i < step.dinputs.size(); ++i) {
      const int d = step.dinputs[i];
      EXPECT_EQ(d < 0, step.modes[i] == Mode::kNone);
      if (d < 0) continue;
      EXPECT_EQ(written[d], step.modes[i] == Mode::kAccumulate);
      written[d] = true;
    }
  }
}

// Nothing below the last trained parameter is differentiated.
TEST(Differentiate, FrozenPartsHaveNoBackwardStep) {
  Fixture f;
  const Value frozen = apply(f.graph, "stem", {f.x, weight(f.graph, "stem", kShape, false)});
  const Value y = apply(f.graph, "conv", {frozen, weight(f.graph, "w", kShape)});
  sum_loss(f.graph, "loss", y);
  const Plan plan = derive(f.graph);
  EXPECT_EQ(order(plan), "f:stem f:conv f:sum b:sum b:conv");
  EXPECT_EQ(backward_of(plan, "conv")->modes, (std::vector{Mode::kNone, Mode::kOverwrite}));
}

TEST(Differentiate, FixedAndStatisticParametersHaveNoGradient) {
  for (ParameterKind kind : {ParameterKind::kFixed, ParameterKind::kStatistic}) {
    Fixture f;
    const Value p = f.graph.parameter({"p", kShape, kind});
    sum_loss(f.graph, "loss", apply(f.graph, "conv", {p, weight(f.graph, "w", kShape)}));
    EXPECT_EQ(backward_of(derive(f.graph), "conv")->modes,
              (std::vector{Mode::kNone, Mode::kOverwrite}));
  }
}

TEST(Differentiate, BranchesThatReachNoLossAreSkipped) {
  Fixture f;
  const Value a = apply(f.graph, "a", {f.x, weight(f.graph, "w", kShape)});
  f.graph.output("dead", apply(f.graph, "dead", {a}));
  sum_loss(f.graph, "loss", apply(f.graph, "live", {a}));
  const Plan plan = derive(f.graph);
  EXPECT_EQ(backward_of(plan, "dead"), nullptr);
  EXPECT_EQ(backward_of(plan, "a")->modes, (std::vector{Mode::kNone, Mode::kOverwrite}));
}

TEST(Differentiate, ConstantInputsStopTheGradient) {
  Fixture f;
  const Value w = apply(f.graph, "make", {weight(f.graph, "w", kShape)});
  const Value y = apply(f.graph, "stop", {f.x, w}, {.constant_inputs = {1}});
  sum_loss(f.graph, "loss", apply(f.graph, "conv", {y, weight(f.graph, "v", kShape)}));
  const Plan plan = derive(f.graph);
  EXPECT_EQ(backward_of(plan, "stop"), nullptr);
  EXPECT_EQ(backward_of(plan, "make"), nullptr);
  EXPECT_NE(backward_of(plan, "conv"), nullptr);
}

// Backward steps see only what the op saved: the rest of the memory is free.
TEST(Differentiate, OnlySavedValuesLiveOn) {
  Fixture f;
  const Value w = weight(f.graph, "w", kShape);
  const Value y = apply(f.graph, "conv", {f.x, w}, {.saved = {{1}, {}}});
  sum_loss(f.graph, "loss", apply(f.graph, "relu", {y}, {.saved = {{}, {0}}}));
  const Plan plan = derive(f.graph);
  EXPECT_EQ(backward_of(plan, "conv")->inputs[0], -1);
  EXPECT_EQ(plan.values[backward_of(plan, "conv")->inputs[1]].name, "w");
  EXPECT_EQ(backward_of(plan, "conv")->outputs, std::vector{-1});
  EXPECT_EQ(backward_of(plan, "relu")->inputs, std::vector{-1});
  EXPECT_GE(backward_of(plan, "relu")->outputs[0], 0);
}

TEST(Differentiate, LossWeightsSeedTheGradients) {
  Fixture f;
  const Value y = apply(f.graph, "conv", {f.x, weight(f.graph, "w", kShape)});
  sum_loss(f.graph, "main", y, 1.0f);
  sum_loss(f.graph, "auxiliary", y, 0.5f);
  const Plan plan = derive(f.graph);
  std::vector<float> seeds;
  for (const PlanValue& value : plan.values) {
    if (value.storage == Storage::kSeed) seeds.push_back(value.seed);
  }
  EXPECT_EQ(seeds, (std::vector{1.0f, 0.5f}));
}

TEST(Differentiate, StatisticsAreWrittenWhereGradientsAre) {
  Fixture f;
  const Value y = apply(f.graph, "norm", {f.x});
  f.graph.statistic(f.graph.parameter({"mean", kShape, ParameterKind::kStatistic}), y);
  for (bool training : {true, false}) {
    const Plan plan = derive(f.graph, training);
    const Value written = plan.graph->nodes()[0].outputs[0];
    EXPECT_EQ(plan.values[written.id].storage, training ? Storage::kGradient : Storage::kArena);
  }
}

}  // namespace
}  // namespace models::testing
