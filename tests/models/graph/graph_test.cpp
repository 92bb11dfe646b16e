#include "models/graph/graph.h"

#include "tests/models/graph/graph_fixture.h"

namespace models::testing {
namespace {

const Shape kShape = {2, 8, 4, 4};

TEST(Graph, InputsAndParametersAreSharedByName) {
  Graph graph;
  const Value x = graph.input("x", {Type::kF32, kShape});
  EXPECT_EQ(graph.input("x", {Type::kF32, kShape}), x);
  EXPECT_THROW(graph.input("x", {Type::kI32, kShape}), comm::Error);
  const Value w = weight(graph, "w", {8});
  EXPECT_EQ(weight(graph, "w", {8}), w);
  EXPECT_THROW(weight(graph, "w", {9}), comm::Error);
  EXPECT_EQ(graph.parameters().size(), 1u);
  EXPECT_NE(weight(graph, "x", {8}), x);  // inputs and parameters are different things
}

TEST(Graph, ScopesNameNodesAndParameters) {
  Graph graph;
  const Value x = graph.input("x", {Type::kF32, kShape});
  apply(graph, "a", {x});
  {
    Graph::Scope backbone(graph, "backbone");
    EXPECT_EQ(graph.qualified("weight"), "backbone.weight");
    {
      Graph::Scope body(graph, "body");
      apply(graph, "b", {x});
    }
    apply(graph, "c", {x});
  }
  EXPECT_EQ(graph.qualified("weight"), "weight");
  EXPECT_EQ(graph.nodes()[0].scope, "");
  EXPECT_EQ(graph.nodes()[1].scope, "backbone.body");
  EXPECT_EQ(graph.nodes()[2].scope, "backbone");
}

TEST(Graph, ShapesAreInferred) {
  Graph graph;
  const Value x = graph.input("x", {Type::kF32, kShape});
  const Value y = apply(graph, "a", {x});
  EXPECT_EQ(graph.shape(y), kShape);
  EXPECT_EQ(graph.values()[y.id].producer, 0);
  EXPECT_EQ(to_string(kShape), "2x8x4x4");
}

TEST(Graph, LossesAreScalarsAndStatisticsHaveTheirShape) {
  Graph graph;
  const Value x = graph.input("x", {Type::kF32, kShape});
  EXPECT_THROW(graph.loss("loss", x, 1.0f), comm::Error);
  const Value mean = weight(graph, "mean", {8});
  EXPECT_THROW(graph.statistic(mean, x), comm::Error);
}

TEST(Shape, RankIsLimited) {
  EXPECT_THROW((Shape{1, 2, 3, 4, 5, 6}), comm::Error);
  EXPECT_EQ((Shape{2, 3}.count()), 6);
  EXPECT_EQ(Shape{}.count(), 1);
}

TEST(Tensor, PhysicalSizeHoldsWholeBlocks) {
  Tensor t{nullptr, Type::kF32, {2, 20, 3, 5}};
  EXPECT_EQ(t.physical_count(), 2 * 20 * 15);
  t.channel_block = 16;
  EXPECT_EQ(t.physical_count(), 2 * 32 * 15);
  EXPECT_EQ(t.physical_bytes(), 2 * 32 * 15 * 4);
  t.channel_block = 20;  // channels last
  EXPECT_EQ(t.physical_count(), 2 * 20 * 15);
}

}  // namespace
}  // namespace models::testing
