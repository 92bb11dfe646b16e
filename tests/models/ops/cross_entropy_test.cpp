// Cross entropy against its formula in double: means, sums, smoothing, pixels without a class, in
// every physical order. PyTorch's numbers: ops_golden_test.cpp.
#include "models/ops/cross_entropy.h"

#include <algorithm>

#include "models/ops/add.h"
#include "tests/models/ops/kernel_fixture.h"

namespace models::testing {
namespace {

struct Expected {
  double loss = 0;
  std::vector<double> dx;
};

// The formula, pixel by pixel.
Expected formula(const Shape& s, const std::vector<float>& x,
                 const std::vector<std::int32_t>& labels, const CrossEntropyAttributes& a) {
  Expected result{0, std::vector<double>(x.size())};
  const std::int64_t cells = s[2] * s[3], classes = s[1];
  const auto valid = [&](std::int32_t t) { return t >= 0 && t < classes && t != a.ignore; };
  const auto count = std::count_if(labels.begin(), labels.end(), valid);
  const double scale = a.sum ? 1.0 / s[0] : count > 0 ? 1.0 / count : 0.0;
  for (std::int64_t i = 0; i < s[0] * cells; ++i) {
    const auto at = [&](std::int64_t k) {
      return static_cast<std::size_t>((i / cells * classes + k) * cells + i % cells);
    };
    if (!valid(labels[i])) continue;
    double largest = -1e30, sum = 0;
    for (std::int64_t k = 0; k < classes; ++k) largest = std::max<double>(largest, x[at(k)]);
    for (std::int64_t k = 0; k < classes; ++k) sum += std::exp(x[at(k)] - largest);
    for (std::int64_t k = 0; k < classes; ++k) {
      const double target = (k == labels[i] ? 1.0 - a.label_smoothing : 0.0) +
                            double{a.label_smoothing} / static_cast<double>(classes);
      const double log_p = x[at(k)] - largest - std::log(sum);
      result.loss -= target * log_p * scale;
      result.dx[at(k)] = (std::exp(log_p) - target) * scale;
    }
  }
  return result;
}

std::vector<std::int32_t> random_labels(const Shape& s, std::int32_t ignore) {
  std::vector<std::int32_t> labels;
  for (float v : values("labels", s[0] * s[2] * s[3], 0.0f, static_cast<float>(s[1]) + 1.0f)) {
    const auto label = static_cast<std::int32_t>(v);
    labels.push_back(label == s[1] ? ignore : label);
  }
  return labels;
}

struct LossCase {
  Shape x;
  CrossEntropyAttributes attributes;
  float scale = 3.0f;
};
std::vector<LossCase> cases() {
  return {{{2, 5, 3, 4}, {.ignore = 255}},
          {{2, 21, 5, 3}, {.ignore = 255}},
          {{2, 3, 40, 37}, {.ignore = -1}},  // several blocks of the reduction
          {{2, 5, 3, 4}, {.ignore = 0}},     // a class that is ignored
          {{2, 5, 3, 4}, {.ignore = 255, .sum = true}},
          {{2, 5, 3, 4}, {.ignore = 255, .label_smoothing = 0.1f}},
          {{3, 16, 2, 2}, {.ignore = 255, .label_smoothing = 0.2f, .sum = true}},
          {{6, 10, 1, 1}, {}},
          {{1, 4, 3, 3}, {.ignore = 255}, 300.0f}};
}

class CrossEntropy : public ::testing::TestWithParam<DeviceCase> {
 protected:
  static Graph graph_of(const LossCase& c, const Shape& labels) {
    Graph graph;
    cross_entropy(graph, variable(graph, "x", c.x), graph.input("labels", {Type::kI32, labels}),
                  c.attributes);
    return graph;
  }
  static Shape label_shape(const Shape& x) { return {x[0], x[2], x[3]}; }
};

TEST_P(CrossEntropy, LossAndGradientAreTheFormulas) {
  for (const LossCase& c : cases()) {
    const auto x = values("x", c.x.count(), -c.scale, c.scale);
    const auto labels = random_labels(c.x, c.attributes.ignore);
    const Expected expected = formula(c.x, x, labels, c.attributes);
    for (int block : channel_blocks(GetParam())) {
      SCOPED_TRACE(to_string(c.x) + " block " + std::to_string(block));
      const Shape shape = label_shape(c.x);
      KernelRun run(GetParam(), graph_of(c, shape), {{c.x, x}, {shape, {}, labels}}, block);
      run.forward();
      EXPECT_NEAR(run.output()[0], expected.loss, 1e-6 * expected.loss);
      run.backward({0.5f}, {GradientMode::kOverwrite, GradientMode::kNone});
      EXPECT_TRUE(run.padding_is_zero());
      const auto dx = run.gradient(0);
      for (std::size_t i = 0; i < dx.size(); ++i) {
        ASSERT_NEAR(dx[i], 0.5 * expected.dx[i], 1e-6) << i;
      }
      const auto initial = values("initial", c.x.count());
      run.backward({0.5f}, {GradientMode::kAccumulate, GradientMode::kNone}, {initial, {}});
      EXPECT_TRUE(run.padding_is_zero());
      const auto sum = run.gradient(0);
      for (std::size_t i = 0; i < dx.size(); ++i) ASSERT_NEAR(sum[i], initial[i] + dx[i], 1e-6);
    }
  }
}

TEST_P(CrossEntropy, NothingValidGivesZeroAndNoGradient) {
  const Shape s = {2, 3, 4, 4}, shape = label_shape(s);
  for (std::int32_t label : {255, 3, -1, 1'000'000}) {
    const std::vector<std::int32_t> labels(static_cast<std::size_t>(shape.count()), label);
    KernelRun run(GetParam(), graph_of({s, {.ignore = 255}}, shape),
                  {{s, values("x", s.count())}, {shape, {}, labels}}, 1);
    run.forward();
    EXPECT_EQ(run.output()[0], 0.0f);
    run.backward({1.0f}, {GradientMode::kOverwrite, GradientMode::kNone});
    for (float d : run.gradient(0)) ASSERT_EQ(d, 0.0f);
  }
}

TEST_P(CrossEntropy, LabelsOfImagesNeedNoMap) {
  const Shape s = {4, 6, 1, 1}, shape = {4};
  const std::vector<std::int32_t> labels = {0, 5, 2, 2};
  const auto x = values("x", s.count());
  KernelRun run(GetParam(), graph_of({s, {}}, shape), {{s, x}, {shape, {}, labels}}, 1);
  run.forward();
  EXPECT_NEAR(run.output()[0], formula(s, x, labels, {}).loss, 1e-6);
}

TEST_P(CrossEntropy, NumericGradientsInAPlan) {
  for (const CrossEntropyAttributes& a :
       {CrossEntropyAttributes{.ignore = 255},
        CrossEntropyAttributes{.ignore = 255, .label_smoothing = 0.1f, .sum = true}}) {
    const Shape s = {2, 5, 3, 4};
    Graph graph;
    const Value x = variable(graph, "x", s);
    graph.loss("probe",
               cross_entropy(graph, add(graph, x, x),
                             graph.input("labels", {Type::kI32, label_shape(s)}), a),
               1.0f);
    Program program(graph, true, GetParam());
    program.set_input("labels", random_labels(s, 255));
    expect_numeric_gradients(program, {{"x", values("x", s.count())}}, {"x"}, 1e-2);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, CrossEntropy, ::testing::ValuesIn(devices()), device_name);

TEST(CrossEntropyShapes, AreChecked) {
  Graph graph;
  const Value x = variable(graph, "x", {2, 3, 4, 4});
  const Value small = graph.input("small", {Type::kI32, {2, 4, 3}});
  const Value floats = graph.input("floats", {Type::kF32, {2, 4, 4}});
  EXPECT_THROW(cross_entropy(graph, x, small, {}), comm::Error);
  EXPECT_THROW(cross_entropy(graph, x, floats, {}), comm::Error);
}

}  // namespace
}  // namespace models::testing
