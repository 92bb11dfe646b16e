#include "tests/models/graph/graph_fixture.h"

namespace models::testing {
namespace {

const Shape kShape = {1, 8, 4, 4};
const TestOpOptions kBlocked = {.layout = LayoutRule::kBlocked};
const TestOpOptions kPlain = {.layout = LayoutRule::kPlain};
const TestOpOptions kAny = {.layout = LayoutRule::kAny};

std::string layouts(const LaidOutGraph& g) {
  std::string text;
  for (const Node& node : g.graph.nodes()) {
    text += (text.empty() ? "" : " ") + node.op->name() +
            (g.layouts[node.outputs[0].id] == Layout::kBlocked ? ":b" : ":p");
  }
  return text;
}

struct Fixture {
  Graph graph;
  Value x = graph.input("x", {Type::kF32, kShape});
};

TEST(Layout, ChainsStayBlocked) {
  Fixture f;
  const Value a = apply(f.graph, "conv", {f.x}, kBlocked);
  apply(f.graph, "conv", {apply(f.graph, "relu", {a})}, kBlocked);
  // a graph input is read as it is
  EXPECT_EQ(layouts(choose_layouts(f.graph)), "conv:b relu:b conv:b");
}

TEST(Layout, ReordersAtBordersOnly) {
  Fixture f;
  const Value a = apply(f.graph, "conv", {f.x}, kBlocked);
  const Value b = apply(f.graph, "loss", {a}, kPlain);
  apply(f.graph, "conv", {b}, kBlocked);
  EXPECT_EQ(layouts(choose_layouts(f.graph)), "conv:b reorder:p loss:p reorder:b conv:b");
}

// Behind a crop, say. A residual of few channels is blocked like the output.
TEST(Layout, AnImageIsReadAsItIs) {
  const TestOpOptions image = {.layout = LayoutRule::kImage};
  Graph graph;
  const Value x = graph.input("x", {Type::kF32, {1, 3, 4, 4}});
  const Value cropped = apply(graph, "crop", {x}, kPlain);
  const Value y = apply(graph, "conv", {cropped, cropped}, image);
  EXPECT_EQ(layouts(choose_layouts(graph)), "crop:p reorder:b conv:b");
  const Value wide = apply(graph, "widen", {graph.input("wide", {Type::kF32, kShape})}, kPlain);
  apply(graph, "conv2", {wide, y}, image);
  EXPECT_EQ(layouts(choose_layouts(graph)),
            "crop:p reorder:b conv:b widen:p reorder:b conv2:b");
}

TEST(Layout, AReorderIsShared) {
  Fixture f;
  const Value a = apply(f.graph, "conv", {f.x}, kBlocked);
  apply(f.graph, "loss1", {a}, kPlain);
  apply(f.graph, "loss2", {a}, kPlain);
  EXPECT_EQ(layouts(choose_layouts(f.graph)), "conv:b reorder:p loss1:p loss2:p");
}

TEST(Layout, FollowersTakeTheOrderOfTheirFirstInput) {
  Fixture f;
  const Value blocked = apply(f.graph, "conv", {f.x}, kBlocked);
  const Value plain = apply(f.graph, "relu", {f.x});
  apply(f.graph, "add1", {blocked, plain});
  apply(f.graph, "add2", {plain, blocked});
  EXPECT_EQ(layouts(choose_layouts(f.graph)), "conv:b relu:p reorder:b add1:b reorder:p add2:p");
}

TEST(Layout, AnyReadsBothAndWritesPlain) {
  Fixture f;
  const Value blocked = apply(f.graph, "conv", {f.x}, kBlocked);
  apply(f.graph, "focal", {blocked}, kAny);
  EXPECT_EQ(layouts(choose_layouts(f.graph)), "conv:b focal:p");
}

TEST(Layout, NamedOutputsArePlain) {
  Fixture f;
  f.graph.output("y", apply(f.graph, "conv", {f.x}, kBlocked));
  const LaidOutGraph g = choose_layouts(f.graph);
  EXPECT_EQ(layouts(g), "conv:b reorder:p");
  EXPECT_EQ(g.layouts[g.graph.outputs()[0].value.id], Layout::kPlain);
}

TEST(Layout, OtherRanksAreAlwaysPlain) {
  Fixture f;
  const Value w = weight(f.graph, "w", {8});
  apply(f.graph, "scale", {apply(f.graph, "conv", {w}, kBlocked)}, kPlain);
  EXPECT_EQ(layouts(choose_layouts(f.graph)), "conv:p scale:p");
}

TEST(Layout, KeepsNamesScopesLossesStatisticsAndCounters) {
  Fixture f;
  Graph::Scope scope(f.graph, "body");
  f.graph.counter("n");
  const Value y = apply(f.graph, "conv", {f.x, weight(f.graph, "w", kShape)}, kBlocked);
  f.graph.statistic(weight(f.graph, "mean", kShape), y);
  sum_loss(f.graph, "loss", y, 0.5f);
  const LaidOutGraph g = choose_layouts(f.graph);
  ASSERT_EQ(g.graph.losses().size(), 1u);
  EXPECT_EQ(g.graph.losses()[0].weight, 0.5f);
  EXPECT_EQ(g.graph.nodes()[0].scope, "body");
  EXPECT_EQ(g.graph.counters(), std::vector<std::string>{"n"});
  const Value conv = g.graph.nodes()[0].outputs[0];
  ASSERT_GE(g.graph.values()[conv.id].statistic, 0);
  EXPECT_EQ(g.graph.parameters()[g.graph.values()[conv.id].statistic].name, "mean");
  EXPECT_EQ(g.layouts.size(), g.graph.values().size());
}

}  // namespace
}  // namespace models::testing
