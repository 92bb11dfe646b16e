#include "models/ops/conv2d.h"

#include <fmt/format.h>

#include "models/ops/add.h"
#include "models/ops/frozen_norm.h"
#include "models/ops/relu.h"
#include "tests/models/ops/op_fixture.h"

namespace models::testing {
namespace {

struct Case {
  Shape x, w;
  ConvAttributes conv;
};

// The plainest convolution: the oracle of every implementation.
std::vector<double> reference(const Case& c, const std::vector<float>& x,
                              const std::vector<float>& w, const Shape& y) {
  std::vector<double> out(static_cast<std::size_t>(y.count()), 0.0);
  const std::int64_t group_in = c.w[1], group_out = c.w[0] / c.conv.groups;
  std::size_t at = 0;
  for (std::int64_t n = 0; n < y[0]; ++n)
    for (std::int64_t o = 0; o < y[1]; ++o)
      for (std::int64_t h = 0; h < y[2]; ++h)
        for (std::int64_t v = 0; v < y[3]; ++v, ++at)
          for (std::int64_t i = 0; i < group_in; ++i)
            for (std::int64_t r = 0; r < c.w[2]; ++r)
              for (std::int64_t s = 0; s < c.w[3]; ++s) {
                const std::int64_t yy = h * c.conv.stride + r * c.conv.dilation - c.conv.padding;
                const std::int64_t xx = v * c.conv.stride + s * c.conv.dilation - c.conv.padding;
                if (yy < 0 || xx < 0 || yy >= c.x[2] || xx >= c.x[3]) continue;
                const std::int64_t channel = o / group_out * group_in + i;
                out[at] += double{x[((n * c.x[1] + channel) * c.x[2] + yy) * c.x[3] + xx]} *
                           w[((o * group_in + i) * c.w[2] + r) * c.w[3] + s];
              }
  return out;
}

class Conv2d : public ::testing::TestWithParam<DeviceCase> {};

std::vector<Case> cases() {
  return {
      {{2, 3, 9, 11}, {16, 3, 7, 7}, {2, 3, 1, 1}},
      {{2, 16, 8, 8}, {32, 16, 1, 1}, {1, 0, 1, 1}},
      {{1, 16, 9, 7}, {20, 16, 3, 3}, {2, 1, 1, 1}},  // channels that fill no block
      {{1, 32, 10, 10}, {32, 32, 3, 3}, {1, 2, 2, 1}},
      {{1, 32, 6, 6}, {32, 16, 3, 3}, {1, 1, 1, 2}},
      {{2, 32, 6, 5}, {32, 4, 3, 3}, {1, 1, 1, 8}},  // groups narrower than a block of channels
      {{1, 64, 7, 6}, {64, 8, 3, 3}, {2, 1, 1, 8}},
      {{1, 64, 6, 6}, {64, 32, 3, 3}, {1, 2, 2, 2}},
      {{1, 12, 5, 5}, {18, 4, 3, 3}, {1, 1, 1, 3}},
  };
}

TEST_P(Conv2d, ForwardEqualsReference) {
  for (const Case& c : cases()) {
    Graph graph;
    const Value x = variable(graph, "x", c.x), w = variable(graph, "w", c.w);
    const Value y = conv2d(graph, x, w, std::nullopt, c.conv);
    graph.output("y", y);
    Program program(graph, false, GetParam());
    const auto xv = values("x", c.x.count()), wv = values("w", c.w.count());
    program.set_parameter("x", xv);
    program.set_parameter("w", wv);
    program.run();
    const auto expected = reference(c, xv, wv, graph.shape(y));
    const auto got = program.output("y");
    for (std::size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got[i], expected[i], 1e-4 * std::sqrt(c.w.count() / c.w[0])) << i;
    }
  }
}

TEST_P(Conv2d, GradientsAreNumeric) {
  for (const Case& c : cases()) {
    Graph graph;
    const Value x = relu(graph, variable(graph, "x", c.x));
    const Value w = variable(graph, "w", c.w), b = variable(graph, "b", {c.w[0]});
    random_projection_loss(graph, conv2d(graph, x, w, b, c.conv));
    Program program(graph, true, GetParam());
    expect_numeric_gradients(program,
                             {{"x", values("x", c.x.count(), 0.1f, 1.0f)},
                              {"w", values("w", c.w.count())},
                              {"b", values("b", c.w[0])}},
                             {"x", "w", "b"}, GetParam().tolerance);
  }
}

// conv + frozen norm + residual + ReLU, fused and not, in value and in gradient.
Graph residual_block() {
  Graph graph;
  const Value x = relu(graph, variable(graph, "x", {1, 16, 6, 6}));
  const Value w = variable(graph, "w", {16, 16, 3, 3});
  const Value z = conv2d(graph, x, w, std::nullopt, {1, 1, 1, 1});
  const std::array<Value, 4> statistics = {
      constant(graph, "gamma", {16}), constant(graph, "beta", {16}), constant(graph, "mean", {16}),
      constant(graph, "variance", {16})};
  random_projection_loss(graph,
                         relu(graph, add(graph, frozen_norm(graph, z, statistics, 1e-5f), x)));
  return graph;
}

std::map<std::string, std::vector<float>> residual_values() {
  return {{"x", values("x", 576, 0.1f, 1.0f)},
          {"w", values("w", 2304, -0.1f, 0.1f)},
          {"gamma", values("gamma", 16, 0.5f, 1.5f)},
          {"beta", values("beta", 16)},
          {"mean", values("mean", 16)},
          {"variance", values("var", 16, 0.5f, 2.0f)}};
}

TEST_P(Conv2d, FusedBlockHasNumericGradients) {
  Program program(residual_block(), true, GetParam());
  EXPECT_EQ(program.executable().plan().graph->nodes().size(),
            5u)  // relu, reorder, conv, reorder, projection
      << to_text(program.executable().plan());
  expect_numeric_gradients(program, residual_values(), {"x", "w"}, 5e-3, 1e-3);
}

TEST_P(Conv2d, FusionChangesNothing) {
  Program fused(residual_block(), true, GetParam());
  Program plain(residual_block(), true, GetParam(), true, {"frozen_norm", "add", "relu"});
  for (Program* program : {&fused, &plain}) {
    for (const auto& [name, v] : residual_values()) program->set_parameter(name, v);
    program->run();
  }
  EXPECT_NEAR(fused.output("probe")[0], plain.output("probe")[0], 1e-3);
  for (const char* name : {"x", "w"}) {
    const auto a = fused.gradient(name), b = plain.gradient(name);
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 2e-3) << name << i;
  }
}

// Runs the graph with direct convolutions and with those of the rule; `values`: of its variables.
void expect_both_agree(const Graph& graph, const DeviceCase& device,
                       const std::map<std::string, std::vector<float>>& values) {
  Program direct(graph, true, device, true), automatic(graph, true, device, false);
  for (Program* program : {&direct, &automatic}) {
    for (const auto& [name, v] : values) program->set_parameter(name, v);
    program->run();
  }
  EXPECT_NEAR(direct.output("probe")[0], automatic.output("probe")[0],
              1e-4 * std::abs(direct.output("probe")[0]) + 1e-2);
  for (const auto& [name, unused] : values) {
    const auto a = direct.gradient(name), b = automatic.gradient(name);
    double norm = 0, difference = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      norm += double{a[i]} * a[i];
      difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    }
    EXPECT_LT(std::sqrt(difference / norm), 1e-4) << name;
  }
}

TEST_P(Conv2d, WinogradAgreesWithDirect) {
  const Case c = {{1, 32, 20, 18}, {48, 32, 3, 3}, {1, 1, 1, 1}};
  Graph graph;
  const Value x = relu(graph, variable(graph, "x", c.x));
  random_projection_loss(graph, conv2d(graph, x, variable(graph, "w", c.w), std::nullopt, c.conv));
  expect_both_agree(graph, GetParam(),
                    {{"x", values("x", c.x.count())}, {"w", values("w", c.w.count())}});
}

// In parts: maps that the dilation divides and those it does not, with bias and ReLU, an x whose
// gradient has another writer, and channels that leave a block half empty.
TEST_P(Conv2d, DilatedWinogradAgreesWithDirect) {
  const std::vector<Case> cases = {{{2, 32, 16, 24}, {32, 32, 3, 3}, {1, 2, 2, 1}},
                                   {{1, 40, 37, 34}, {56, 40, 3, 3}, {1, 2, 2, 1}},
                                   {{1, 32, 33, 30}, {48, 32, 3, 3}, {1, 4, 4, 1}}};
  for (const Case& c : cases) {
    Graph graph;
    const Value x = relu(graph, variable(graph, "x", c.x));
    const Value bias = variable(graph, "bias", {c.w[0]});
    const Value y = relu(graph, conv2d(graph, x, variable(graph, "w", c.w), bias, c.conv));
    const Value v = variable(graph, "v", {c.w[0], c.w[1], 1, 1});
    random_projection_loss(graph, add(graph, conv2d(graph, x, v, std::nullopt, {}), y));
    expect_both_agree(graph, GetParam(),
                      {{"x", values("x", c.x.count())},
                       {"bias", values("bias", c.w[0])},
                       {"w", values("w", c.w.count(), -0.1f, 0.1f)},
                       {"v", values("v", c.w[0] * c.w[1], -0.1f, 0.1f)}});
    if (GetParam().kind != comm::DeviceKind::kCpu || native_tile() != 16) continue;
    Program program(graph, true, GetParam(), false);
    std::string names;
    for (const std::string& line : program.executable().implementations()) names += line + "\n";
    EXPECT_NE(names.find(fmt::format(" on {} parts", c.conv.dilation * c.conv.dilation)),
              std::string::npos)
        << names;
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Conv2d, ::testing::ValuesIn(devices()), device_name);

}  // namespace
}  // namespace models::testing
