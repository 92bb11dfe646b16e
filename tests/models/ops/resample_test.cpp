// The ops that move cells between maps of different size: each against plain loops in double,
// overwriting and accumulating, and by central differences inside a plan.
#include "models/ops/resample.h"
#include "models/ops/conv_transpose2d.h"
#include "models/ops/crop.h"
#include "models/ops/resize_bilinear.h"
#include "models/ops/scale.h"
#include "tests/models/ops/kernel_fixture.h"

namespace models::testing {
namespace {

using Doubles = std::vector<double>;

struct ResampleCase {
  std::string name;
  Shape x;
  std::function<Value(Graph&, Value)> build;
  std::function<Doubles(const std::vector<float>&)> reference;
};

// y(plane, h, w) = f(plane of x, h, w)
Doubles map_planes(const Shape& x, const std::vector<float>& values, const Shape& y,
                   const std::function<double(const float*, std::int64_t, std::int64_t)>& f) {
  Doubles result;
  for (std::int64_t plane = 0; plane < x[0] * x[1]; ++plane)
    for (std::int64_t h = 0; h < y[2]; ++h)
      for (std::int64_t w = 0; w < y[3]; ++w)
        result.push_back(f(values.data() + plane * x[2] * x[3], h, w));
  return result;
}

// Linear interpolation between cell centres, clamped to the outermost ones.
ResampleCase resize_case(const Shape& x, std::int64_t height, std::int64_t width) {
  return {"resize_bilinear", x,
          [=](Graph& g, Value v) { return resize_bilinear(g, v, height, width); },
          [=](const std::vector<float>& values) {
            const auto at = [](std::int64_t i, std::int64_t in, std::int64_t out) {
              const double source = (i + 0.5) * in / out - 0.5;
              return std::min(std::max(source, 0.0), in - 1.0);
            };
            return map_planes(x, values, {1, 1, height, width},
                              [&](const float* plane, auto h, auto w) {
                                const double r = at(h, x[2], height), c = at(w, x[3], width);
                                double sum = 0;
                                for (std::int64_t i = 0; i < x[2]; ++i)
                                  for (std::int64_t j = 0; j < x[3]; ++j)
                                    sum += std::max(0.0, 1 - std::abs(i - r)) *
                                           std::max(0.0, 1 - std::abs(j - c)) * plane[i * x[3] + j];
                                return sum;
                              });
          }};
}

// y(h s + i - p, ...) += x(h, ...) k(i) k(j), scattered.
ResampleCase deconvolution_case(const Shape& x, int kernel, int stride, int padding) {
  return {"upsample_deconvolution", x,
          [=](Graph& g, Value v) {
            return upsample_deconvolution(g, v, kernel, {.stride = stride, .padding = padding});
          },
          [=](const std::vector<float>& values) {
            const auto taps = bilinear_kernel(kernel);
            const Shape y = {1, 1, (x[2] - 1) * stride - 2 * padding + kernel,
                             (x[3] - 1) * stride - 2 * padding + kernel};
            return map_planes(x, values, y, [&](const float* plane, auto h, auto w) {
              double sum = 0;
              for (std::int64_t r = 0; r < x[2]; ++r)
                for (std::int64_t c = 0; c < x[3]; ++c) {
                  const std::int64_t i = h + padding - r * stride, j = w + padding - c * stride;
                  if (i < 0 || i >= kernel || j < 0 || j >= kernel) continue;
                  sum += double{taps[i]} * taps[j] * plane[r * x[3] + c];
                }
              return sum;
            });
          }};
}

ResampleCase crop_case(const Shape& x, const CropWindow& window) {
  return {"crop", x, [=](Graph& g, Value v) { return crop(g, v, window); },
          [=](const std::vector<float>& values) {
            return map_planes(x, values, {1, 1, window.height, window.width},
                              [&](const float* plane, auto h, auto w) {
                                const std::int64_t r = h + window.top, c = w + window.left;
                                const bool inside = r >= 0 && r < x[2] && c >= 0 && c < x[3];
                                return inside ? double{plane[r * x[3] + c]} : 0.0;
                              });
          }};
}

std::vector<ResampleCase> cases() {
  const Shape s = {2, 3, 4, 5}, wide = {1, 20, 9, 7};
  return {resize_case(s, 8, 13),
          resize_case(s, 32, 40),
          resize_case(s, 3, 5),
          resize_case(wide, 2, 3),
          resize_case({1, 2, 1, 1}, 3, 4),
          deconvolution_case(s, 4, 2, 1),
          deconvolution_case(s, 4, 2, 0),
          deconvolution_case(s, 16, 8, 4),
          deconvolution_case(s, 3, 2, 1),
          deconvolution_case({1, 2, 1, 2}, 64, 32, 0),
          deconvolution_case(s, 2, 3, 0),  // cells between the kernels stay zero
          crop_case(s, {1, 2, 2, 3}),
          crop_case(wide, {0, 0, 9, 6}),
          crop_case(wide, {-2, -3, 14, 11}),
          crop_case(s, {-1, 2, 3, 6}),
          crop_case(s, {5, 0, 2, 2}),
          {"scale", wide, [](Graph& g, Value v) { return scale(g, v, 0.25f); },
           [](const std::vector<float>& v) {
             Doubles y(v.begin(), v.end());
             for (double& value : y) value *= 0.25;
             return y;
           }}};
}

class Resample : public ::testing::TestWithParam<DeviceCase> {
 protected:
  template <typename Test>
  void for_each_run(Test test) {
    for (const ResampleCase& c : cases()) {
      Graph graph;
      const Value y = c.build(graph, variable(graph, "x", c.x));
      const bool plain = graph.nodes().back().op->layout() == LayoutRule::kPlain;
      const auto x = values(c.name, c.x.count());
      for (int block : plain ? std::vector{1} : channel_blocks(GetParam())) {
        SCOPED_TRACE(c.name + " " + to_string(c.x) + " to " + to_string(graph.shape(y)) +
                     " block " + std::to_string(block));
        KernelRun run(GetParam(), graph, {{c.x, x}}, block);
        run.forward();
        test(c, x, run);
      }
    }
  }
};

TEST_P(Resample, ForwardEqualsReference) {
  for_each_run([](const ResampleCase& c, const std::vector<float>& x, KernelRun& run) {
    const Doubles expected = c.reference(x);
    const auto got = run.output();
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 2e-6) << i;
    EXPECT_TRUE(run.padding_is_zero());
  });
}

// All are linear: <dy, A x> = <A^T dy, x>, and column k of A is A e_k.
TEST_P(Resample, GradientIsTheTransposedMap) {
  for_each_run([](const ResampleCase& c, const std::vector<float>& x, KernelRun& run) {
    const auto dy = values("dy", static_cast<std::int64_t>(run.output().size()));
    run.backward(dy, {GradientMode::kOverwrite});
    EXPECT_TRUE(run.padding_is_zero());
    const auto dx = run.gradient(0);
    const std::size_t stride = std::max<std::size_t>(1, dx.size() / 40);
    for (std::size_t k = 0; k < dx.size(); k += stride) {
      std::vector<float> unit(x.size());
      unit[k] = 1.0f;
      const Doubles column = c.reference(unit);
      double expected = 0;
      for (std::size_t i = 0; i < column.size(); ++i) expected += column[i] * dy[i];
      ASSERT_NEAR(dx[k], expected, 1e-5 * std::max(1.0, std::abs(expected))) << k;
    }
    const auto initial = values("initial", static_cast<std::int64_t>(dx.size()));
    run.backward(dy, {GradientMode::kAccumulate}, {initial});
    const auto sum = run.gradient(0);
    for (std::size_t i = 0; i < dx.size(); ++i) ASSERT_NEAR(sum[i], dx[i] + initial[i], 1e-5) << i;
  });
}

TEST_P(Resample, NumericGradientsInAPlan) {
  for (const ResampleCase& c : cases()) {
    SCOPED_TRACE(c.name + " " + to_string(c.x));
    Graph graph;
    random_projection_loss(graph, c.build(graph, variable(graph, "x", c.x)));
    Program program(graph, true, GetParam());
    expect_numeric_gradients(program, {{"x", values(c.name, c.x.count())}}, {"x"}, 5e-3);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Resample, ::testing::ValuesIn(devices()), device_name);

TEST(Band, TransposesWithGaps) {
  Band band;
  band.add_row(1, {2.0f, 3.0f});
  band.add_row(0, {});
  band.add_row(1, {5.0f});
  const Band back = band.transposed(4);
  EXPECT_EQ(back.first, (std::vector<std::int32_t>{0, 0, 0, 0}));
  EXPECT_EQ(back.begin, (std::vector<std::int32_t>{0, 0, 3, 4, 4}));
  EXPECT_EQ(back.weight, (std::vector<float>{2.0f, 0.0f, 5.0f, 3.0f}));
}

TEST(BilinearKernel, InterpolatesConstantsAndIsThePapers) {
  EXPECT_EQ(bilinear_kernel(4), (std::vector<float>{0.25f, 0.75f, 0.75f, 0.25f}));
  EXPECT_EQ(bilinear_kernel(3), (std::vector<float>{0.5f, 1.0f, 0.5f}));
  for (int factor : {2, 8, 16, 32}) {  // every output cell inside gets weights that sum to one
    const auto taps = bilinear_kernel(2 * factor);
    for (int i = 0; i < factor; ++i) EXPECT_NEAR(taps[i] + taps[i + factor], 1.0, 1e-6);
  }
}

TEST(ResampleShapes, AreChecked) {
  Graph graph;
  const Value x = variable(graph, "x", {1, 2, 3, 3});
  EXPECT_THROW(resize_bilinear(graph, x, 0, 4), comm::Error);
  EXPECT_THROW(crop(graph, x, {0, 0, 0, 1}), comm::Error);
  EXPECT_THROW(upsample_deconvolution(graph, x, 2, {.stride = 1, .padding = 3}), comm::Error);
  EXPECT_EQ(resize_bilinear(graph, x, 3, 3), x);
}

}  // namespace
}  // namespace models::testing
