// Dropout's masks: how many, of what they depend, and that backward draws the same ones.
#include "models/ops/dropout.h"

#include <algorithm>

#include "models/ops/conv2d.h"
#include "models/ops/relu.h"
#include "tests/models/ops/op_fixture.h"

namespace models::testing {
namespace {

using Ids = std::vector<std::int64_t>;
using Epochs = std::vector<std::int32_t>;

// dx of y = dropout(x) is the mask itself, scaled, where dy = 1; here x = 1 shows it in y.
struct Setup {
  Shape shape = {2, 3, 5, 7};
  float p = 0.3f;
  std::uint64_t seed = 5;
  std::string scope = "head";
  Ids ids = {11, 12};
  Epochs epochs = {0, 0};
};

std::vector<float> mask(const DeviceCase& device, const Setup& s) {
  Graph graph;
  const Value x = variable(graph, "x", s.shape);
  const Value id = graph.input("sample_id", {Type::kI64, {s.shape[0]}});
  const Value epoch = graph.input("epoch", {Type::kI32, {s.shape[0]}});
  {
    Graph::Scope scope(graph, s.scope);
    graph.output("y", dropout(graph, x, s.p, s.seed, id, epoch));
  }
  Program program(graph, false, device);
  program.set_parameter("x", std::vector<float>(static_cast<std::size_t>(s.shape.count()), 1.0f));
  program.set_input("sample_id", s.ids);
  program.set_input("epoch", s.epochs);
  program.run();
  return program.output("y");
}

std::vector<float> sample(const std::vector<float>& y, std::size_t n, std::size_t samples) {
  const auto size = static_cast<std::ptrdiff_t>(y.size() / samples);
  return {y.begin() + static_cast<std::ptrdiff_t>(n) * size,
          y.begin() + static_cast<std::ptrdiff_t>(n + 1) * size};
}

class Dropout : public ::testing::TestWithParam<DeviceCase> {};

TEST_P(Dropout, KeepsTheRightShareAndScales) {
  for (float p : {0.0f, 0.1f, 0.5f, 0.9f}) {
    const auto y = mask(GetParam(), {.shape = {1, 1, 200, 200}, .p = p, .ids = {3}, .epochs = {2}});
    const auto zeros = std::count(y.begin(), y.end(), 0.0f);
    EXPECT_NEAR(static_cast<double>(zeros) / 40000.0, p, 5 * std::sqrt(p * (1 - p) / 40000.0));
    for (float v : y) ASSERT_TRUE(v == 0.0f || v == 1.0f / (1.0f - p)) << v;
  }
}

TEST_P(Dropout, MaskBelongsToTheSampleNotToItsPlace) {
  const auto pair = mask(GetParam(), {});
  const auto swapped = mask(GetParam(), {.ids = {12, 11}});
  EXPECT_EQ(sample(pair, 0, 2), sample(swapped, 1, 2));
  EXPECT_EQ(sample(pair, 1, 2), sample(swapped, 0, 2));
  const auto alone = mask(GetParam(), {.shape = {1, 3, 5, 7}, .ids = {12}, .epochs = {0}});
  EXPECT_EQ(sample(pair, 1, 2), alone);
  EXPECT_EQ(mask(GetParam(), {}), pair);
}

TEST_P(Dropout, EverythingOfTheKeyChangesIt) {
  const auto base = mask(GetParam(), {});
  EXPECT_NE(sample(base, 0, 2), sample(base, 1, 2));
  EXPECT_NE(sample(mask(GetParam(), {.epochs = {1, 0}}), 0, 2), sample(base, 0, 2));
  EXPECT_EQ(sample(mask(GetParam(), {.epochs = {1, 0}}), 1, 2), sample(base, 1, 2));
  EXPECT_NE(mask(GetParam(), {.seed = 6}), base);
  EXPECT_NE(mask(GetParam(), {.scope = "other"}), base);
}

// In blocked order between convolutions, with channels that fill no block, and in plain order.
TEST_P(Dropout, LayoutDoesNotMatter) {
  const Shape shape = {2, 3, 5, 7};
  Graph graph;
  const Value image = graph.input("image", {Type::kF32, shape});
  const Value id = graph.input("sample_id", {Type::kI64, {2}});
  const Value epoch = graph.input("epoch", {Type::kI32, {2}});
  const Value identity = constant(graph, "identity", {3, 3, 1, 1});
  Value x = conv2d(graph, image, identity, {}, {});
  {
    Graph::Scope scope(graph, "head");
    x = dropout(graph, x, 0.3f, 5, id, epoch);
  }
  graph.output("y", conv2d(graph, x, identity, {}, {}));
  Program program(graph, false, GetParam());
  program.set_parameter("identity", {1, 0, 0, 0, 1, 0, 0, 0, 1});
  program.set_input("image", std::vector<float>(static_cast<std::size_t>(shape.count()), 1.0f));
  program.set_input("sample_id", Ids{11, 12});
  program.set_input("epoch", Epochs{0, 0});
  program.run();
  EXPECT_EQ(program.output("y"), mask(GetParam(), {}));
}

// The same mask in both passes, for maps and vectors, and where a gradient accumulates.
TEST_P(Dropout, NumericGradientsInAPlan) {
  for (const Shape& shape : {Shape{2, 5, 3, 3}, Shape{2, 37}}) {
    Graph graph;
    const Value x = variable(graph, "x", shape);
    const Value id = graph.input("sample_id", {Type::kI64, {2}});
    const Value epoch = graph.input("epoch", {Type::kI32, {2}});
    const Value y = dropout(graph, x, 0.4f, 1, id, epoch);
    Graph::Scope scope(graph, "second");
    random_projection_loss(graph, dropout(graph, y, 0.25f, 1, id, epoch));
    Program program(graph, true, GetParam());
    program.set_input("sample_id", Ids{1, 99});
    program.set_input("epoch", Epochs{3, 4});
    expect_numeric_gradients(program, {{"x", values("x", shape.count())}}, {"x"}, 5e-3);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Dropout, ::testing::ValuesIn(devices()), device_name);

TEST(DropoutArguments, AreChecked) {
  Graph graph;
  const Value x = variable(graph, "x", {2, 3});
  const Value id = graph.input("id", {Type::kI64, {2}}),
              epoch = graph.input("e", {Type::kI32, {2}});
  EXPECT_THROW(dropout(graph, x, 1.0f, 1, id, epoch), comm::Error);
  EXPECT_THROW(dropout(graph, x, -0.1f, 1, id, epoch), comm::Error);
  EXPECT_THROW(dropout(graph, x, 0.5f, 1, epoch, id), comm::Error);
}

}  // namespace
}  // namespace models::testing
