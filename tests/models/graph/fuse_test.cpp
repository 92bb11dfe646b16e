#include "tests/models/graph/graph_fixture.h"

namespace models::testing {
namespace {

const Shape kShape = {1, 8, 4, 4};
const TestOpOptions kTakesAll = {.absorbs = {"norm", "add", "relu"}};

struct Chain {
  Graph graph;
  Value x, y, z;
  Chain() {
    x = graph.input("x", {Type::kF32, kShape});
    y = apply(graph, "conv", {x}, kTakesAll);
    z = apply(graph, "relu", {y});
  }
};

TEST(Fuse, AbsorbsTheOnlyConsumer) {
  Chain c;
  const Graph fused = fuse(c.graph, {});
  EXPECT_EQ(names(fused), "conv+relu0");
  EXPECT_EQ(fused.nodes()[0].inputs, std::vector{c.x});
  EXPECT_EQ(fused.nodes()[0].outputs, std::vector{c.z});
  EXPECT_EQ(fused.values()[c.z.id].producer, 0);
  EXPECT_EQ(fused.values()[c.y.id].producer, -1);
}

TEST(Fuse, ChainsOfConsumers) {
  Chain c;
  const Value s = apply(c.graph, "norm", {c.z, weight(c.graph, "g", kShape)});
  const Graph fused = fuse(c.graph, {});
  EXPECT_EQ(names(fused), "conv+relu0+norm0");
  // the op's inputs, then the consumer's without the link
  ASSERT_EQ(fused.nodes()[0].inputs.size(), 2u);
  EXPECT_EQ(fused.nodes()[0].inputs[1], c.graph.nodes()[2].inputs[1]);
  EXPECT_EQ(fused.nodes()[0].outputs, std::vector{s});
}

TEST(Fuse, KeepsAValueWithTwoConsumers) {
  Chain c;
  apply(c.graph, "other", {c.y});
  EXPECT_EQ(names(fuse(c.graph, {})), "conv relu other");
}

TEST(Fuse, KeepsNamedValues) {
  Chain output;
  output.graph.output("y", output.y);
  EXPECT_EQ(names(fuse(output.graph, {})), "conv relu");

  Graph graph;
  const Value x = graph.input("x", {Type::kF32, kShape});
  const Value l = apply(graph, "conv", {x}, {.absorbs = {"relu"}, .scalar = true});
  graph.loss("loss", l, 1.0f);
  apply(graph, "relu", {l});
  EXPECT_EQ(names(fuse(graph, {})), "conv relu");
}

TEST(Fuse, KeepsStatistics) {
  Chain c;
  c.graph.statistic(weight(c.graph, "mean", kShape), c.y);
  EXPECT_EQ(names(fuse(c.graph, {})), "conv relu");
}

TEST(Fuse, AProducerOfSeveralValuesKeepsTheOthers) {
  Graph graph;
  const Value x = graph.input("x", {Type::kF32, kShape});
  const Value y = apply(graph, "norm", {x}, {.absorbs = {"add", "relu"}, .num_outputs = 2});
  const Value mean = graph.nodes().back().outputs[1];
  graph.statistic(weight(graph, "mean", kShape), mean);
  const Value z = apply(graph, "relu", {apply(graph, "add", {y, x}, kTakesAll)});
  const Graph fused = fuse(graph, {});
  EXPECT_EQ(names(fused), "norm+add0+relu0");
  EXPECT_EQ(fused.nodes()[0].inputs, (std::vector{x, x}));
  EXPECT_EQ(fused.nodes()[0].outputs, (std::vector{z, mean}));
  EXPECT_EQ(fused.values()[mean.id].producer, 0);
}

// The others would come too late for whoever reads them, and only output 0 is absorbed into.
TEST(Fuse, OtherValuesThatAreReadStay) {
  Graph graph;
  const Value x = graph.input("x", {Type::kF32, kShape});
  const Value y = apply(graph, "norm", {x}, {.absorbs = {"relu"}, .num_outputs = 2});
  const Value mean = graph.nodes().back().outputs[1];
  apply(graph, "other", {mean});
  apply(graph, "relu", {y});
  EXPECT_EQ(names(fuse(graph, {})), "norm other relu");
}

TEST(Fuse, OnlyTheFirstValueIsAbsorbedInto) {
  Graph graph;
  const Value x = graph.input("x", {Type::kF32, kShape});
  apply(graph, "norm", {x}, {.absorbs = {"relu"}, .num_outputs = 2});
  apply(graph, "relu", {graph.nodes().back().outputs[1]});
  EXPECT_EQ(names(fuse(graph, {})), "norm relu");
}

TEST(Fuse, CanBeSwitchedOffByConsumer) {
  Chain c;
  EXPECT_EQ(names(fuse(c.graph, std::vector<std::string>{"relu"})), "conv relu");
  EXPECT_EQ(names(fuse(c.graph, std::vector<std::string>{"norm", "add"})), "conv+relu0");
}

// Of two producers the later absorbs: what the earlier made exists by then, so the order holds.
TEST(Fuse, TheLaterProducerAbsorbsAResidualAdd) {
  Graph graph;
  const Value x = graph.input("x", {Type::kF32, kShape});
  const Value a = apply(graph, "first", {x}, kTakesAll);
  const Value b = apply(graph, "second", {x}, kTakesAll);
  apply(graph, "add", {a, b});
  const Graph fused = fuse(graph, {});
  EXPECT_EQ(names(fused), "first second+add1");
  EXPECT_EQ(fused.nodes()[1].inputs, (std::vector{x, a}));
  std::vector<bool> known(fused.values().size(), false);
  for (std::size_t v = 0; v < known.size(); ++v) {
    known[v] = fused.values()[v].role != Graph::Role::kActivation;
  }
  for (const Node& node : fused.nodes()) {
    for (Value input : node.inputs) EXPECT_TRUE(known[input.id]);
    for (Value output : node.outputs) known[output.id] = true;
  }
}

// x is the identity path: its producer also feeds the branch, so only the branch can absorb.
TEST(Fuse, AnIdentityShortcutStaysAValue) {
  Graph graph;
  const Value x = apply(graph, "stem", {graph.input("x", {Type::kF32, kShape})}, kTakesAll);
  const Value branch = apply(graph, "conv", {x}, kTakesAll);
  apply(graph, "relu", {apply(graph, "add", {branch, x})});
  EXPECT_EQ(names(fuse(graph, {})), "stem conv+add0+relu0");
}

TEST(Fuse, LeavesTheSourceAsItWas) {
  Chain c;
  fuse(c.graph, {});
  EXPECT_EQ(names(c.graph), "conv relu");
}

}  // namespace
}  // namespace models::testing
