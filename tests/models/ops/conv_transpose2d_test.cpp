// Transposed convolution against its definition, scattered in double.
#include "models/ops/conv_transpose2d.h"

#include "tests/models/ops/kernel_fixture.h"

namespace models::testing {
namespace {

struct DeconvolutionCase {
  Shape x, weight;
  ConvTransposeAttributes attributes;
};

std::vector<DeconvolutionCase> cases() {
  return {{{2, 3, 4, 5}, {3, 2, 4, 4}, {.stride = 2, .padding = 1}},
          {{1, 2, 3, 4}, {2, 3, 3, 3}, {.stride = 1, .padding = 0}},
          {{1, 2, 3, 2}, {2, 2, 16, 16}, {.stride = 8, .padding = 4}},
          {{2, 2, 3, 3}, {2, 1, 5, 3}, {.stride = 2, .padding = 2}},
          {{1, 2, 3, 3}, {2, 1, 2, 2}, {.stride = 3, .padding = 0}},  // gaps
          {{2, 6, 3, 3}, {6, 2, 4, 4}, {.stride = 2, .padding = 1, .groups = 3}},
          {{1, 4, 3, 3}, {4, 1, 4, 4}, {.stride = 2, .padding = 1, .groups = 4}},  // depthwise
          {{1, 2, 1, 1}, {2, 2, 64, 64}, {.stride = 32, .padding = 0}}};
}

// Calls use(x index, weight index, y index) for every product of the definition.
template <typename Use>
void for_each_product(const DeconvolutionCase& c, const Shape& y, Use use) {
  const auto& a = c.attributes;
  const Shape &x = c.x, &k = c.weight;
  for (std::int64_t n = 0; n < x[0]; ++n)
    for (std::int64_t in = 0; in < x[1]; ++in)
      for (std::int64_t h = 0; h < x[2]; ++h)
        for (std::int64_t w = 0; w < x[3]; ++w)
          for (std::int64_t o = 0; o < k[1]; ++o)
            for (std::int64_t i = 0; i < k[2]; ++i)
              for (std::int64_t j = 0; j < k[3]; ++j) {
                const std::int64_t row = h * a.stride + i - a.padding;
                const std::int64_t column = w * a.stride + j - a.padding;
                if (row < 0 || row >= y[2] || column < 0 || column >= y[3]) continue;
                const std::int64_t out = in / (x[1] / a.groups) * k[1] + o;
                use(((n * x[1] + in) * x[2] + h) * x[3] + w,
                    ((in * k[1] + o) * k[2] + i) * k[3] + j,
                    ((n * y[1] + out) * y[2] + row) * y[3] + column);
              }
}

class ConvTranspose : public ::testing::TestWithParam<DeviceCase> {
 protected:
  template <typename Test>
  void for_each_case(Test test) {
    for (const DeconvolutionCase& c : cases()) {
      SCOPED_TRACE(to_string(c.x) + " with " + to_string(c.weight));
      Graph graph;
      const Value y = conv_transpose2d(graph, variable(graph, "x", c.x),
                                       variable(graph, "weight", c.weight), c.attributes);
      const auto x = values("x", c.x.count()), weight = values("weight", c.weight.count());
      KernelRun run(GetParam(), graph, {{c.x, x}, {c.weight, weight, {}, true}}, 1);
      run.forward();
      test(c, graph.shape(y), x, weight, run);
    }
  }
  static void expect_near(const std::vector<float>& got, const std::vector<double>& expected) {
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got[i], expected[i], 1e-5 * std::max(1.0, std::abs(expected[i]))) << i;
    }
  }
};

TEST_P(ConvTranspose, ForwardIsTheDefinition) {
  for_each_case([](const DeconvolutionCase& c, const Shape& y, const std::vector<float>& x,
                   const std::vector<float>& weight, KernelRun& run) {
    std::vector<double> expected(static_cast<std::size_t>(y.count()));
    for_each_product(c, y,
                     [&](auto i, auto k, auto o) { expected[o] += double{x[i]} * weight[k]; });
    expect_near(run.output(), expected);
  });
}

TEST_P(ConvTranspose, GradientsAreTheDefinitions) {
  for_each_case([](const DeconvolutionCase& c, const Shape& y, const std::vector<float>& x,
                   const std::vector<float>& weight, KernelRun& run) {
    const auto dy = values("dy", y.count());
    std::vector<double> dx(x.size()), dweight(weight.size());
    for_each_product(c, y, [&](auto i, auto k, auto o) {
      dx[i] += double{dy[o]} * weight[k];
      dweight[k] += double{dy[o]} * x[i];
    });
    run.backward(dy, {GradientMode::kOverwrite, GradientMode::kOverwrite});
    expect_near(run.gradient(0), dx);
    expect_near(run.gradient(1), dweight);

    const auto first = values("first", c.x.count()), second = values("second", c.weight.count());
    run.backward(dy, {GradientMode::kAccumulate, GradientMode::kAccumulate}, {first, second});
    for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += first[i];
    for (std::size_t i = 0; i < dweight.size(); ++i) dweight[i] += second[i];
    expect_near(run.gradient(0), dx);
    expect_near(run.gradient(1), dweight);

    run.backward(dy, {GradientMode::kNone, GradientMode::kAccumulate}, {{}, second});
    expect_near(run.gradient(1), dweight);
  });
}

TEST_P(ConvTranspose, NumericGradientsInAPlan) {
  for (const DeconvolutionCase& c : cases()) {
    SCOPED_TRACE(to_string(c.x) + " with " + to_string(c.weight));
    Graph graph;
    random_projection_loss(graph,
                           conv_transpose2d(graph, variable(graph, "x", c.x),
                                            variable(graph, "weight", c.weight), c.attributes));
    Program program(graph, true, GetParam());
    expect_numeric_gradients(
        program, {{"x", values("x", c.x.count())}, {"weight", values("weight", c.weight.count())}},
        {"x", "weight"}, 5e-3);
  }
}

// The learned layer starts as the fixed one.
TEST_P(ConvTranspose, BilinearWeightsEqualTheFixedKernel) {
  constexpr int kChannels = 3, kKernel = 16;
  const Shape shape = {2, kChannels, 3, 4};
  const ConvTransposeAttributes attributes{.stride = 8, .padding = 4};
  const auto taps = bilinear_kernel(kKernel);
  std::vector<float> weight(kChannels * kChannels * kKernel * kKernel);
  for (int c = 0; c < kChannels; ++c)
    for (int i = 0; i < kKernel; ++i)
      for (int j = 0; j < kKernel; ++j)
        weight[((c * kChannels + c) * kKernel + i) * kKernel + j] = taps[i] * taps[j];
  Graph learned, fixed;
  const Shape kernel_shape = {kChannels, kChannels, kKernel, kKernel};
  conv_transpose2d(learned, variable(learned, "x", shape),
                   variable(learned, "weight", kernel_shape), attributes);
  upsample_deconvolution(fixed, variable(fixed, "x", shape), kKernel, attributes);
  const auto x = values("x", shape.count());
  KernelRun a(GetParam(), learned, {{shape, x}, {kernel_shape, weight, {}, true}}, 1);
  KernelRun b(GetParam(), fixed, {{shape, x}}, 1);
  a.forward();
  b.forward();
  const auto ya = a.output(), yb = b.output();
  ASSERT_EQ(ya.size(), yb.size());
  for (std::size_t i = 0; i < ya.size(); ++i) ASSERT_NEAR(ya[i], yb[i], 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Devices, ConvTranspose, ::testing::ValuesIn(devices()), device_name);

TEST(ConvTransposeShapes, AreChecked) {
  Graph graph;
  const Value x = variable(graph, "x", {1, 4, 3, 3});
  EXPECT_THROW(conv_transpose2d(graph, x, variable(graph, "a", {3, 2, 4, 4}), {}), comm::Error);
  EXPECT_THROW(conv_transpose2d(graph, x, variable(graph, "b", {4, 2, 4, 4}), {.groups = 3}),
               comm::Error);
  EXPECT_THROW(conv_transpose2d(graph, x, variable(graph, "c", {4, 2, 65, 65}), {}), comm::Error);
  EXPECT_THROW(conv_transpose2d(graph, x, variable(graph, "d", {4, 2, 2, 2}), {.padding = 4}),
               comm::Error);
  const Value y = conv_transpose2d(graph, x, variable(graph, "e", {4, 2, 4, 4}),
                                   {.stride = 2, .padding = 1, .groups = 2});
  EXPECT_EQ(graph.shape(y), (Shape{1, 4, 6, 6}));
}

}  // namespace
}  // namespace models::testing
