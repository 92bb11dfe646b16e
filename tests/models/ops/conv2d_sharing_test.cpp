// Convolutions whose weight, input or normalisation is used more than once, and the kernel's
// gradient modes in every physical order.
#include "models/ops/add.h"
#include "models/ops/conv2d.h"
#include "models/ops/conv_transpose2d.h"
#include "models/ops/frozen_norm.h"
#include "models/ops/relu.h"
#include "tests/models/ops/kernel_fixture.h"

namespace models::testing {
namespace {

constexpr ConvAttributes kSame = {.stride = 1, .padding = 1};

class ConvSharing : public ::testing::TestWithParam<DeviceCase> {};

// The towers of a detector: one weight over maps of several sizes. 20 channels are padded, 32 have
// the weight in tiles.
void expect_shared_gradients(const DeviceCase& device, std::int64_t c) {
  Graph graph;
  const Value w = variable(graph, "w", {c, c, 3, 3}), b = variable(graph, "b", {c});
  const Value large = relu(graph, variable(graph, "large", {1, c, 6, 5}));
  const Value small = relu(graph, variable(graph, "small", {1, c, 3, 3}));
  const auto tower = [&](Value x) {
    x = relu(graph, conv2d(graph, x, w, b, kSame));
    return conv2d(graph, x, w, b, {.stride = 2, .padding = 1});
  };
  const Value y = tower(large), z = tower(small);  // 3x3 and 2x2
  random_projection_loss(graph, add(graph, y, conv2d(graph, y, w, b, kSame)));
  graph.loss("other", conv2d(graph, z, variable(graph, "w1", {1, c, 2, 2}), std::nullopt, {}),
             1.0f);
  Program program(graph, true, device);
  const auto& plan = program.executable().plan();
  EXPECT_EQ(plan.layout->slots.size(), 5u);
  const std::map<std::string, std::vector<float>> at = {
      {"w", values("w", c * c * 9, -3.0f / c, 3.0f / c)},
      {"b", values("b", c)},
      {"large", values("large", 30 * c, 0.1f, 1.0f)},
      {"small", values("small", 9 * c, 0.1f, 1.0f)},
      {"w1", std::vector<float>(4 * c, 0.0f)}};  // "other" has no slope here but writes gradients
  expect_numeric_gradients(program, at, {"w", "b", "large"}, 2e-2, 2e-3);
}

TEST_P(ConvSharing, OneWeightOverTwoMaps) {
  for (const std::int64_t channels : {20, 32}) {
    SCOPED_TRACE(channels);
    expect_shared_gradients(GetParam(), channels);
  }
}

// The same weight folded with two normalisations must not share its folded copy.
TEST_P(ConvSharing, OneWeightUnderTwoNorms) {
  Graph graph;
  const Value w = variable(graph, "w", {16, 16, 1, 1});
  const Value x = relu(graph, variable(graph, "x", {1, 16, 4, 4}));
  std::map<std::string, std::vector<float>> at = {{"w", values("w", 256)},
                                                  {"x", values("x", 256, 0.1f, 1.0f)}};
  std::vector<Value> branches;
  for (const std::string n : {"first.", "second."}) {
    std::array<Value, 4> statistics;
    int i = 0;
    for (const char* name : {"gamma", "beta", "mean", "variance"}) {
      statistics[i++] = constant(graph, n + name, {16});
      at[n + name] = values(n + name, 16, 0.5f, 1.5f);
    }
    branches.push_back(
        frozen_norm(graph, conv2d(graph, x, w, std::nullopt, {}), statistics, 1e-5f));
  }
  random_projection_loss(graph, add(graph, branches[0], branches[1]));
  Program fused(graph, true, GetParam());
  Program plain(graph, true, GetParam(), true, {"frozen_norm", "add"});
  expect_numeric_gradients(fused, at, {"w", "x"}, 5e-3, 2e-3);
  for (const auto& [name, v] : at) plain.set_parameter(name, v);
  for (const auto& [name, v] : at) fused.set_parameter(name, v);
  plain.run();
  fused.run();
  EXPECT_NEAR(fused.output("probe")[0], plain.output("probe")[0], 1e-4);
}

// Reordered weights are made again when the parameters changed.
TEST_P(ConvSharing, PreparedWeightsFollowTheVersion) {
  Graph graph;
  const Value x = relu(graph, variable(graph, "x", {1, 32, 4, 4}));
  const Value y = conv2d(graph, x, variable(graph, "w", {32, 32, 3, 3}), std::nullopt, kSame);
  graph.output("y", y);
  Program program(graph, false, GetParam());
  program.set_parameter("x", values("x", 512, 0.1f, 1.0f));
  program.set_parameter("w", values("w", 9216));
  program.run();
  const auto first = program.output("y");
  auto doubled = values("w", 9216);
  for (float& v : doubled) v *= 2;
  program.set_parameter("w", doubled);
  program.run();
  const auto second = program.output("y");
  for (std::size_t i = 0; i < first.size(); ++i) ASSERT_FLOAT_EQ(second[i], 2 * first[i]);
}

// Winograd too, which an inference plan could do with weights in an order of its own.
TEST_P(ConvSharing, InferenceComputesWhatTrainingDoes) {
  Graph graph;
  const Value w = variable(graph, "w", {32, 32, 3, 3});
  const Value y =
      conv2d(graph, relu(graph, variable(graph, "x", {1, 32, 18, 17})), w, std::nullopt, kSame);
  graph.output("y", y);
  random_projection_loss(graph, y);
  std::vector<std::vector<float>> answers;
  for (const bool training : {false, true}) {
    Program program(graph, training, GetParam());
    program.set_parameter("x", values("x", 32 * 18 * 17, 0.1f, 1.0f));
    program.set_parameter("w", values("w", 32 * 32 * 9));
    program.run();
    answers.push_back(program.output("y"));
  }
  EXPECT_EQ(answers[0], answers[1]);
}

// conv + bias + norm + residual + ReLU as one kernel: x, w, b and the residual accumulate.
// 20 channels are padded, 32 have their weights in tiles.
void expect_accumulation(const DeviceCase& device, std::int64_t channels) {
  const Shape s = {2, channels, 5, 4}, c = {channels}, k = {channels, channels, 3, 3};
  Graph graph;
  const auto input = [&](const char* name, const Shape& shape) {
    return graph.input(name, {Type::kF32, shape});
  };
  Value y = conv2d(graph, input("x", s), input("w", k), input("b", c), kSame);
  y = frozen_norm(graph, y,
                  {input("gamma", c), input("beta", c), input("mean", c), input("variance", c)},
                  1e-5f);
  graph.output("y", relu(graph, add(graph, y, input("residual", s))));
  const Graph fused = fuse(graph, {});
  ASSERT_EQ(fused.nodes().size(), 1u);
  const std::vector<KernelInput> inputs = {{s, values("x", s.count(), 0.0f, 1.0f)},
                                           {k, values("w", k.count(), -0.2f, 0.2f), {}, true},
                                           {c, values("b", channels)},
                                           {c, values("gamma", channels, 0.5f, 1.5f)},
                                           {c, values("beta", channels)},
                                           {c, values("mean", channels)},
                                           {c, values("variance", channels, 0.5f, 1.5f)},
                                           {s, values("residual", s.count())}};
  const auto dy = values("dy", s.count());
  using M = GradientMode;
  const auto modes = [](M mode) {
    return std::vector{mode, mode, mode, M::kNone, M::kNone, M::kNone, M::kNone, mode};
  };
  std::vector<std::vector<float>> initial, plain_order;
  for (const KernelInput& i : inputs) initial.push_back(values("initial", i.shape.count()));
  for (int block : channel_blocks(device)) {
    SCOPED_TRACE(block);
    KernelRun run(device, fused, inputs, block);
    run.forward();
    run.backward(dy, modes(M::kOverwrite));
    EXPECT_TRUE(run.padding_is_zero());
    std::vector<std::vector<float>> alone;
    for (int i : {0, 1, 2, 7}) alone.push_back(run.gradient(i));
    if (block == 1) plain_order = alone;
    run.forward();
    run.backward(dy, modes(M::kAccumulate), initial);
    EXPECT_TRUE(run.padding_is_zero());
    int g = 0;
    for (int i : {0, 1, 2, 7}) {
      const auto sum = run.gradient(i);
      for (std::size_t e = 0; e < sum.size(); ++e) {
        ASSERT_NEAR(sum[e], alone[g][e] + initial[i][e], 1e-5) << i;
        ASSERT_NEAR(alone[g][e], plain_order[g][e], 2e-5) << i;
      }
      ++g;
    }
  }
}

TEST_P(ConvSharing, FusedKernelAccumulates) {
  for (const std::int64_t channels : {20, 32}) {
    SCOPED_TRACE(channels);
    expect_accumulation(GetParam(), channels);
  }
}

// A weight lies in tiles where it consists of whole ones and only convolutions read it.
TEST(ConvWeights, LieInTilesWhereOnlyConvolutionsReadThem) {
  Graph graph;
  const auto weight = [&](const char* name, const Shape& shape) {
    return graph.parameter({name, shape, ParameterKind::kWeight});
  };
  const auto conv = [&](Value x, Value w, int groups = 1) {
    return conv2d(graph, x, w, std::nullopt, {1, 0, 1, groups});
  };
  Value y = conv(graph.input("x", {Type::kF32, {1, 3, 8, 8}}), weight("image", {16, 3, 1, 1}));
  y = conv(y, weight("whole", {32, 16, 1, 1}));
  y = conv(y, weight("grouped", {32, 16, 1, 1}), 2);
  const Value shared = weight("shared", {32, 32, 2, 2});
  y = conv_transpose2d(graph, conv(y, shared), shared, {});
  graph.output("y", conv(y, weight("ragged", {20, 32, 1, 1})));
  PlanOptions options;
  options.training = false;
  options.tile = 16;
  const Plan tiled = plan(graph, options);
  for (const ParameterSlot& slot : tiled.layout->slots) {
    EXPECT_EQ(slot.tile, slot.parameter.name == "whole" ? 16 : 1) << slot.parameter.name;
  }
  options.tile = 1;
  for (const ParameterSlot& slot : plan(graph, options).layout->slots) EXPECT_EQ(slot.tile, 1);
}

TEST_P(ConvSharing, ShapesAreChecked) {
  Graph graph;
  const Value x = variable(graph, "x", {1, 8, 4, 4});
  const auto conv = [&](const Shape& w, const ConvAttributes& a) {
    conv2d(graph, x, variable(graph, to_string(w), w), std::nullopt, a);
  };
  EXPECT_THROW(conv({8, 4, 1, 1}, {}), comm::Error);             // channels
  EXPECT_THROW(conv({8, 8, 7, 7}, {}), comm::Error);             // window over the map
  EXPECT_THROW(conv({7, 4, 3, 3}, {.groups = 2}), comm::Error);  // groups
  EXPECT_NO_THROW(conv({8, 8, 5, 5}, {.padding = 2}));
}

INSTANTIATE_TEST_SUITE_P(Devices, ConvSharing, ::testing::ValuesIn(devices()), device_name);

}  // namespace
}  // namespace models::testing
