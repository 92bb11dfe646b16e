// The ops at the end of a classifier against plain loops in double: linear, flatten, global average
// pool; and linear's promise that threads change no bit.
#include "models/ops/linear.h"

#include <omp.h>

#include "models/ops/add.h"
#include "models/ops/flatten.h"
#include "models/ops/global_avg_pool.h"
#include "models/ops/relu.h"
#include "tests/models/ops/kernel_fixture.h"

namespace models::testing {
namespace {

using Floats = std::vector<float>;
using M = GradientMode;

struct Sizes {
  std::int64_t n, i, o;
};
// One column; a vector and a rest; several pieces of each extent.
constexpr Sizes kSizes[] = {{1, 1, 1}, {3, 17, 10}, {32, 784, 64}, {5, 100, 130}, {2, 2100, 37}};

struct Operands {
  explicit Operands(const Sizes& s)
      : x(values("x", s.n * s.i)),
        w(values("w", s.o * s.i)),
        b(values("b", s.o)),
        dy(values("dy", s.n * s.o)) {}
  Floats x, w, b, dy;
};

Graph linear_graph(const Sizes& s) {
  Graph graph;
  const auto input = [&](const char* name, const Shape& shape) {
    return graph.input(name, {Type::kF32, shape});
  };
  linear(graph, input("x", {s.n, s.i}), input("w", {s.o, s.i}), input("b", {s.o}));
  return graph;
}

KernelRun linear_run(const DeviceCase& device, const Sizes& s, const Operands& v) {
  return {device, linear_graph(s), {{{s.n, s.i}, v.x}, {{s.o, s.i}, v.w}, {{s.o}, v.b}}, 1};
}

// Each element within rounding of sums of `terms` products.
void expect_near(const Floats& got, const std::vector<double>& expected, std::int64_t terms) {
  ASSERT_EQ(got.size(), expected.size());
  const double tolerance = 2e-6 * std::sqrt(static_cast<double>(terms)) + 1e-6;
  for (std::size_t k = 0; k < got.size(); ++k) ASSERT_NEAR(got[k], expected[k], tolerance) << k;
}

class Linear : public ::testing::TestWithParam<DeviceCase> {};

TEST_P(Linear, ForwardEqualsReference) {
  for (const Sizes& s : kSizes) {
    const Operands v(s);
    KernelRun run = linear_run(GetParam(), s, v);
    run.forward();
    std::vector<double> y;
    for (std::int64_t n = 0; n < s.n; ++n)
      for (std::int64_t o = 0; o < s.o; ++o) {
        y.push_back(v.b[o]);
        for (std::int64_t i = 0; i < s.i; ++i)
          y.back() += double{v.x[n * s.i + i]} * v.w[o * s.i + i];
      }
    expect_near(run.output(), y, s.i);
  }
}

TEST_P(Linear, GradientsEqualReferenceAndAccumulate) {
  for (const Sizes& s : kSizes) {
    const Operands v(s);
    KernelRun run = linear_run(GetParam(), s, v);
    run.forward();
    std::vector<double> dx(v.x.size()), dw(v.w.size()), db(v.b.size());
    for (std::int64_t n = 0; n < s.n; ++n)
      for (std::int64_t o = 0; o < s.o; ++o) {
        const double g = v.dy[n * s.o + o];
        db[o] += g;
        for (std::int64_t i = 0; i < s.i; ++i) {
          dx[n * s.i + i] += g * v.w[o * s.i + i];
          dw[o * s.i + i] += g * v.x[n * s.i + i];
        }
      }
    const std::vector<std::vector<double>> all = {dx, dw, db};
    const std::int64_t terms[] = {s.o, s.n, s.n};
    run.backward(v.dy, {M::kOverwrite, M::kOverwrite, M::kOverwrite});
    for (int k = 0; k < 3; ++k) expect_near(run.gradient(k), all[k], terms[k]);

    std::vector<Floats> initial = {values("ix", s.n * s.i), values("iw", s.o * s.i),
                                   values("ib", s.o)};
    run.backward(v.dy, {M::kAccumulate, M::kAccumulate, M::kAccumulate}, initial);
    for (int k = 0; k < 3; ++k) {
      std::vector<double> sum = all[k];
      for (std::size_t e = 0; e < sum.size(); ++e) sum[e] += initial[k][e];
      expect_near(run.gradient(k), sum, terms[k]);
    }
  }
}

TEST_P(Linear, GradientsAreIndependent) {
  const Sizes s = kSizes[1];
  const Operands v(s);
  KernelRun run = linear_run(GetParam(), s, v);
  run.forward();
  for (int wanted = 0; wanted < 3; ++wanted) {
    run.backward(v.dy, {M::kOverwrite, M::kOverwrite, M::kOverwrite});
    const Floats expected = run.gradient(wanted);
    std::vector<M> modes(3, M::kNone);
    modes[wanted] = M::kOverwrite;
    run.backward(v.dy, modes);
    EXPECT_EQ(run.gradient(wanted), expected) << wanted;
  }
}

TEST_P(Linear, NumericGradientsInAPlan) {
  Graph graph;
  const Value x = variable(graph, "x", {3, 17});
  const Value y =
      linear(graph, add(graph, x, x), variable(graph, "w", {17, 17}), variable(graph, "b", {17}));
  random_projection_loss(graph, add(graph, y, x));  // x is used twice: its gradient accumulates
  Program program(graph, true, GetParam());
  const std::map<std::string, Floats> at = {
      {"x", values("x", 51)}, {"w", values("w", 289)}, {"b", values("b", 17)}};
  expect_numeric_gradients(program, at, {"x", "w", "b"}, GetParam().tolerance);
}

INSTANTIATE_TEST_SUITE_P(Devices, Linear, ::testing::ValuesIn(devices()), device_name);

// Output and gradients of one kernel on some threads, its own and oneDNN's.
Floats bits_on(int threads, const Sizes& s) {
  omp_set_num_threads(threads);
  const comm::Stream stream(comm::Device{}, threads);
  Operands v(s);
  Floats y(v.dy.size()), dx(v.x.size()), dw(v.w.size()), db(v.b.size());
  const auto tensor = [](Floats& data, const Shape& shape) {
    return Tensor{reinterpret_cast<std::byte*>(data.data()), Type::kF32, shape};
  };
  const std::vector<Tensor> in = {tensor(v.x, {s.n, s.i}), tensor(v.w, {s.o, s.i}),
                                  tensor(v.b, {s.o})},
                            out = {tensor(y, {s.n, s.o})}, dout = {tensor(v.dy, {s.n, s.o})},
                            din = {tensor(dx, {s.n, s.i}), tensor(dw, {s.o, s.i}),
                                   tensor(db, {s.o})};
  KernelContext context{comm::Device{}, stream.view()};
  context.inputs = in;
  context.outputs = out;
  context.wants_gradient = {true, true, true};
  context.training = true;
  const auto kernel = LinearOp().compile(context);
  const std::vector<M> modes(3, M::kOverwrite);
  const KernelArgs args{in, out, dout, din, modes, {}, 1};
  kernel->forward(args);
  kernel->backward(args);
  EXPECT_EQ(omp_get_max_threads(), threads);  // left as it was
  for (const Floats& more : {dx, dw, db}) y.insert(y.end(), more.begin(), more.end());
  return y;
}

TEST(LinearThreads, GiveTheSameBits) {
  const int before = omp_get_max_threads();
  for (const Sizes& s : kSizes) {
    const Floats one = bits_on(1, s);
    for (int threads : {2, 3, 8}) EXPECT_EQ(bits_on(threads, s), one) << s.i << " " << threads;
  }
  omp_set_num_threads(before);
}

TEST(LinearShapes, AreChecked) {
  Graph graph;
  const Value x = variable(graph, "x", {2, 8}), b = variable(graph, "b", {4});
  EXPECT_THROW(linear(graph, x, variable(graph, "inputs", {4, 7}), b), comm::Error);
  EXPECT_THROW(linear(graph, x, variable(graph, "outputs", {5, 8}), b), comm::Error);
  EXPECT_THROW(linear(graph, variable(graph, "map", {2, 8, 1, 1}), variable(graph, "w", {4, 8}), b),
               comm::Error);
  EXPECT_THROW(flatten(graph, x), comm::Error);
  EXPECT_THROW(global_avg_pool(graph, x), comm::Error);
  EXPECT_THROW(as_map(graph, b), comm::Error);
  EXPECT_EQ(graph.shape(as_map(graph, x)), (Shape{2, 8, 1, 1}));
}

class FromMaps : public ::testing::TestWithParam<DeviceCase> {
 protected:
  // Calls test(shape, run) for maps that fill their channel blocks and maps that do not.
  template <typename Build, typename Test>
  void for_each_run(Build build, Test test) {
    for (const Shape& s : {Shape{2, 16, 5, 6}, Shape{3, 20, 2, 3}, Shape{1, 1, 4, 4}}) {
      for (int block : channel_blocks(GetParam())) {
        SCOPED_TRACE(to_string(s) + " block " + std::to_string(block));
        Graph graph;
        build(graph, graph.input("x", {Type::kF32, s}));
        KernelRun run(GetParam(), graph, {{s, values("x", s.count())}}, block);
        run.forward();
        test(s, run);
      }
    }
  }
};

TEST_P(FromMaps, FlattenKeepsThePlainOrder) {
  for_each_run([](Graph& g, Value x) { flatten(g, x); },
               [](const Shape& s, KernelRun& run) {
                 EXPECT_EQ(run.output(), values("x", s.count()));
                 const Floats dy = values("dy", s.count());
                 run.backward(dy, {M::kOverwrite});
                 EXPECT_EQ(run.gradient(0), dy);
                 EXPECT_TRUE(run.padding_is_zero());
                 const Floats initial = values("initial", s.count());
                 run.backward(dy, {M::kAccumulate}, {initial});
                 for (std::size_t i = 0; i < dy.size(); ++i)
                   ASSERT_EQ(run.gradient(0)[i], dy[i] + initial[i]);
                 EXPECT_TRUE(run.padding_is_zero());
               });
}

TEST_P(FromMaps, GlobalAveragePool) {
  for_each_run([](Graph& g, Value x) { global_avg_pool(g, x); },
               [](const Shape& s, KernelRun& run) {
                 const Floats x = values("x", s.count()), y = run.output();
                 const auto cells = static_cast<std::size_t>(s[2] * s[3]);
                 ASSERT_EQ(y.size() * cells, x.size());
                 for (std::size_t i = 0; i < y.size(); ++i) {
                   double sum = 0;
                   for (std::size_t k = 0; k < cells; ++k) sum += x[i * cells + k];
                   ASSERT_NEAR(y[i], sum / static_cast<double>(cells), 1e-7);
                 }
                 const Floats dy = values("dy", std::ssize(y));
                 const Floats initial = values("initial", s.count());
                 for (const bool adds : {false, true}) {
                   run.backward(dy, {adds ? M::kAccumulate : M::kOverwrite}, {initial});
                   const Floats dx = run.gradient(0);
                   for (std::size_t i = 0; i < dx.size(); ++i)
                     ASSERT_NEAR(dx[i] - (adds ? initial[i] : 0.0f),
                                 dy[i / cells] / static_cast<float>(cells), 1e-6);
                   EXPECT_TRUE(run.padding_is_zero());
                 }
               });
}

// Behind a ReLU, so that they meet blocked activations and their reorders.
TEST_P(FromMaps, NumericGradientsInAPlan) {
  for (const bool average : {false, true}) {
    Graph graph;
    const Value x = relu(graph, variable(graph, "x", {2, 20, 3, 2}));
    const Value y = average ? global_avg_pool(graph, x) : flatten(graph, x);
    random_projection_loss(graph, as_map(graph, relu(graph, y)));
    Program program(graph, true, GetParam());
    expect_numeric_gradients(program, {{"x", values("x", 240, 0.1f, 1.0f)}}, {"x"},
                             GetParam().tolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, FromMaps, ::testing::ValuesIn(devices()), device_name);

}  // namespace
}  // namespace models::testing
