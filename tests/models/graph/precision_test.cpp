// Which values a plan in bf16 stores so, and where it converts.
#include "models/graph/precision.h"

#include <gmock/gmock.h>

#include "tests/models/graph/graph_fixture.h"

namespace models::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using P = PrecisionRule;

const Shape kShape = {2, 8, 4, 4};

TestOpOptions rule(PrecisionRule precision, LayoutRule layout = LayoutRule::kBlocked) {
  TestOpOptions options;
  options.layout = layout;
  options.precision = precision;
  return options;
}

struct Fixture {
  Graph graph;
  Value image = graph.input("image", {Type::kF32, kShape});
  Value w = weight(graph, "w", {8, 8, 1, 1});
  Value conv(Value x) { return apply(graph, "conv", {x, w}, rule(P::kBf16)); }
  void loss(Value x) {
    TestOpOptions options = rule(P::kReads, LayoutRule::kAny);
    options.scalar = true;
    graph.loss("loss", apply(graph, "loss", {x}, options), 1.0f);
  }
};

// "conv:bf16 cast:f32 ..." of the nodes' first outputs.
std::string types(const LaidOutGraph& g) {
  std::string text;
  for (const Node& node : g.graph.nodes()) {
    text += (text.empty() ? "" : " ") + node.op->name() + ":" +
            to_string(g.types[static_cast<std::size_t>(node.outputs[0].id)]);
  }
  return text;
}
std::string types(const Graph& graph) { return types(choose_layouts(graph, Precision::kBf16)); }

TEST(Precision, ChainsStayInBf16FromImageToLoss) {
  Fixture f;
  const Value y = apply(f.graph, "relu", {f.conv(f.image)}, rule(P::kFollow, LayoutRule::kFollow));
  f.loss(f.conv(y));
  const LaidOutGraph g = choose_layouts(f.graph, Precision::kBf16);
  EXPECT_EQ(types(g), "conv:bf16 relu:bf16 conv:bf16 loss:f32");
  EXPECT_EQ(g.types[static_cast<std::size_t>(f.w.id)], Type::kF32);
  EXPECT_EQ(types(choose_layouts(f.graph)), "conv:f32 relu:f32 conv:f32 loss:f32");
}

TEST(Precision, WhatNeedsFp32GetsOneCopy) {
  Fixture f;
  const Value y = f.conv(f.image);
  const TestOpOptions fp32 = rule(P::kF32);
  const Value a = apply(f.graph, "a", {y}, fp32), b = apply(f.graph, "b", {y}, fp32);
  f.loss(f.conv(apply(f.graph, "add", {a, b}, rule(P::kFollow))));
  EXPECT_EQ(types(f.graph), "conv:bf16 cast:f32 a:f32 b:f32 add:f32 cast:bf16 conv:bf16 loss:f32");
}

TEST(Precision, AllInputsFollowTheFirst) {
  Fixture f;
  const Value y = f.conv(f.image), a = apply(f.graph, "a", {y}, rule(P::kF32));
  apply(f.graph, "narrow", {y, a}, rule(P::kFollow));
  apply(f.graph, "wide", {a, y}, rule(P::kFollow));
  EXPECT_EQ(types(f.graph), "conv:bf16 cast:f32 a:f32 cast:bf16 narrow:bf16 wide:f32");
}

TEST(Precision, OneSweepReordersAndConverts) {
  Fixture f;
  f.graph.output("y", f.conv(f.image));
  const LaidOutGraph g = choose_layouts(f.graph, Precision::kBf16);
  EXPECT_EQ(types(g), "conv:bf16 reorder:f32");
  EXPECT_EQ(g.layouts[static_cast<std::size_t>(g.graph.outputs()[0].value.id)], Layout::kPlain);
}

// Behind a crop, say: the convolution converts and reorders its few channels itself.
TEST(Precision, AnImageIsReadAsItIs) {
  Graph graph;
  const Value x = graph.input("image", {Type::kF32, {2, 3, 4, 4}});
  const Value cropped = apply(graph, "crop", {x}, rule(P::kFollow, LayoutRule::kFollow));
  apply(graph, "conv", {cropped, cropped}, rule(P::kBf16, LayoutRule::kImage));
  EXPECT_EQ(types(graph), "crop:f32 reorder:bf16 conv:bf16");
}

// Whoever fills the batch converts and reorders it; but not for an op that wants it as it is.
TEST(Precision, AnInputThatConvolutionsReadIsStoredForThem) {
  for (const bool alone : {true, false}) {
    Graph graph;
    const Value x = graph.input("image", {Type::kF32, {2, 3, 4, 4}});
    const Value w = weight(graph, "w", {3, 3, 1, 1});
    apply(graph, "conv", {x, w}, rule(P::kBf16, LayoutRule::kImage));
    apply(graph, "conv", {x, w}, rule(P::kBf16, LayoutRule::kImage));
    if (!alone) apply(graph, "crop", {x}, rule(P::kFollow, LayoutRule::kFollow));
    const LaidOutGraph g = choose_layouts(graph, Precision::kBf16);
    const auto id = static_cast<std::size_t>(x.id);
    EXPECT_EQ(g.types[id], alone ? Type::kBF16 : Type::kF32);
    EXPECT_EQ(g.layouts[id], alone ? Layout::kBlocked : Layout::kPlain);
    EXPECT_EQ(types(g), alone ? "conv:bf16 conv:bf16" : "conv:bf16 conv:bf16 crop:f32");
    EXPECT_EQ(choose_layouts(graph).types[id], Type::kF32);
    EXPECT_EQ(choose_layouts(graph).layouts[id], Layout::kPlain);
  }
}

TEST(Precision, OtherRanksAndIntegersStay) {
  Graph graph;
  const Value x = weight(graph, "x", {4, 8});
  const Value k = graph.input("k", {Type::kI32, kShape});
  apply(graph, "linear", {x}, rule(P::kBf16));
  apply(graph, "labels", {k}, rule(P::kBf16));
  EXPECT_EQ(types(graph), "linear:f32 labels:i32");
}

Plan plan_of(const Graph& graph, Precision precision) {
  return plan(graph, {.device = comm::DeviceKind::kCuda, .precision = precision});
}

TEST(Precision, GradientsHaveTheTypeOfTheirValues) {
  Fixture f;
  const Value y = f.conv(f.image);
  f.loss(f.conv(y));
  const Plan p = plan_of(f.graph, Precision::kBf16);
  int narrow = 0, parameters = 0;
  for (std::size_t v = 0; v < p.gradient_of.size(); ++v) {
    if (p.gradient_of[v] < 0) continue;
    const PlanValue& value = p.values[v];
    const PlanValue& gradient = p.values[static_cast<std::size_t>(p.gradient_of[v])];
    EXPECT_EQ(gradient.spec, value.spec);
    if (gradient.storage == Storage::kGradient) {
      EXPECT_EQ(gradient.spec.type, Type::kF32);
      ++parameters;
    }
    narrow += gradient.spec.type == Type::kBF16;
  }
  EXPECT_EQ(parameters, 1);
  EXPECT_EQ(narrow, 2);
}

TEST(Precision, HalvesTheArenaAndShowsInTheText) {
  Fixture f;
  f.loss(f.conv(f.conv(f.image)));
  const Plan narrow = plan_of(f.graph, Precision::kBf16), wide = plan_of(f.graph, Precision::kFp32);
  EXPECT_NEAR(static_cast<double>(narrow.arena_bytes), wide.arena_bytes / 2.0, 128);
  EXPECT_THAT(to_text(narrow), HasSubstr("[2x8x4x4:bf16b]"));
  EXPECT_THAT(to_text(narrow), HasSubstr("image[2x8x4x4]"));
  EXPECT_THAT(to_text(wide), Not(HasSubstr("bf16")));
}

TEST(Precision, CpusComputeInFp32) {
  Fixture f;
  f.loss(f.conv(f.image));
  EXPECT_THROW(plan(f.graph, {.precision = Precision::kBf16}), comm::Error);
}

}  // namespace
}  // namespace models::testing
