#include "models/ops/sync_norm.h"

#include "models/ops/add.h"
#include "tests/models/ops/op_fixture.h"

namespace models::testing {
namespace {

constexpr float kEps = 1e-5f;

using Norm = Value (*)(Graph&, Value, const BatchNormParameters&, float);

// Norm of a value that is used twice, under a loss that gives every element its own gradient.
Graph graph_of(Norm norm, const Shape& s, bool trainable = true) {
  Graph graph;
  const Shape c = {s[1]};
  Value x = trainable ? variable(graph, "x", s) : constant(graph, "x", s);
  x = add(graph, x, x);
  const auto statistic = [&](const char* name) {
    return graph.parameter({name, c, ParameterKind::kStatistic});
  };
  const Value y = norm(graph, x,
                       {variable(graph, "gamma", c), variable(graph, "beta", c), statistic("mean"),
                        statistic("variance")},
                       kEps);
  graph.output("y", y);
  random_projection_loss(graph, add(graph, y, x));
  return graph;
}

std::map<std::string, std::vector<float>> point(const Shape& s) {
  return {{"x", values("x", s.count(), 0.5f, 2.0f)},
          {"gamma", values("gamma", s[1], 0.5f, 1.5f)},
          {"beta", values("beta", s[1])}};
}

void expect_near(const std::vector<float>& a, const std::vector<float>& b, const char* what) {
  ASSERT_EQ(a.size(), b.size());
  double scale = 1;
  for (float v : b) scale = std::max(scale, std::abs(double{v}));
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_NEAR(a[i], b[i], 1e-5 * scale) << what << "[" << i << "]";
  }
}

// Blocks that are full and not, one value a channel, more cells than a piece holds.
const Shape kShapes[] = {
    {2, 16, 5, 6}, {3, 20, 4, 5}, {2, 3, 40, 41}, {4, 5, 1, 1}, {1, 33, 32, 33}};

TEST(SyncNorm, OfOneMicroBatchIsBatchNorm) {
  for (const Shape& s : kShapes) {
    SCOPED_TRACE(to_string(s));
    Program sync(graph_of(sync_batch_norm, s), true, devices()[0]);
    Program batch(graph_of(batch_norm, s), true, devices()[0]);
    for (Program* program : {&sync, &batch}) {
      for (const auto& [name, v] : point(s)) program->set_parameter(name, v);
      program->run();
    }
    expect_near(sync.output("y"), batch.output("y"), "y");
    for (const char* name : {"x", "gamma", "beta", "mean", "variance"}) {
      expect_near(sync.gradient(name), batch.gradient(name), name);
    }
  }
}

TEST(SyncNorm, NumericGradients) {
  const Shape s = {2, 20, 3, 5};
  Program program(graph_of(sync_batch_norm, s), true, devices()[0]);
  expect_numeric_gradients(program, point(s), {"x", "gamma", "beta"}, 1e-2, 1e-3);
}

// The values that are merged: forward, and backward where the input has a gradient.
TEST(SyncNorm, HasTwoSynchronisedValuesOrOne) {
  const Shape s = {2, 20, 3, 5};
  Program trained(graph_of(sync_batch_norm, s), true, devices()[0]);
  const auto points = trained.executable().sync_points();
  ASSERT_EQ(points.size(), 2u);
  EXPECT_FALSE(points[0].gradient);
  EXPECT_TRUE(points[1].gradient);
  EXPECT_LT(points[0].step, points[1].step);
  EXPECT_EQ(points[0].value.shape, (Shape{3, 20}));
  Program constant_input(graph_of(sync_batch_norm, s, false), true, devices()[0]);
  EXPECT_EQ(constant_input.executable().sync_points().size(), 1u);
  Program batch(graph_of(batch_norm, s), true, devices()[0]);
  EXPECT_TRUE(batch.executable().sync_points().empty());
}

TEST(SyncNorm, MomentsDoNotDependOnThreads) {
  const Shape s = {2, 33, 40, 41};
  std::vector<std::vector<float>> seen;
  for (int threads : {1, 2}) {
    comm::Stream stream(comm::Device{}, threads);
    Plan p = plan(graph_of(sync_batch_norm, s), {});
    ParameterStorage storage(p.layout, comm::Device{});
    Executable executable(std::move(p), storage, {comm::Device{}, stream.view()});
    for (const auto& [name, v] : point(s)) {
      std::copy(v.begin(), v.end(), storage.parameter(name).f32());
    }
    StepObserver none;
    executable.run(none, 1);
    const auto g = storage.gradients.as<float>();
    seen.emplace_back(g.begin(), g.end());
  }
  EXPECT_EQ(seen[0], seen[1]);
}

TEST(Moments, MergeIsThatOfTheUnion) {
  const auto v = values("v", 7, 100.0f, 101.0f);
  const auto of = [&](std::size_t begin, std::size_t end) {
    Moments m;
    for (std::size_t i = begin; i < end; ++i) m.count += 1, m.mean += v[i];
    m.mean /= std::max(1.0, m.count);
    for (std::size_t i = begin; i < end; ++i) m.squares += (v[i] - m.mean) * (v[i] - m.mean);
    return m;
  };
  for (std::size_t cut = 0; cut <= v.size(); ++cut) {
    const Moments merged = merge(of(0, cut), of(cut, v.size())), whole = of(0, v.size());
    EXPECT_EQ(merged.count, whole.count);
    EXPECT_NEAR(merged.mean, whole.mean, 1e-12) << cut;
    EXPECT_NEAR(merged.squares, whole.squares, 1e-10) << cut;
  }
  EXPECT_EQ(merge(Moments{}, Moments{}).count, 0);
}

}  // namespace
}  // namespace models::testing
