// The ops that walk activations element by element, channel by channel or window by window: each
// against plain loops in double, in every physical order, overwriting and accumulating; and inside
// a plan, with values that are used twice.
#include "models/ops/add.h"
#include "models/ops/batch_norm.h"
#include "models/ops/frozen_norm.h"
#include "models/ops/group_norm.h"
#include "models/ops/max_pool.h"
#include "models/ops/relu.h"
#include "models/ops/upsample_nearest.h"
#include "tests/models/ops/kernel_fixture.h"

namespace models::testing {
namespace {

using Doubles = std::vector<double>;

struct Input {
  std::string name;
  Shape shape;
  float low = -1.0f, high = 1.0f;
  bool differentiable = true;
};

struct OpCase {
  std::string name;
  std::vector<Input> inputs;
  std::function<Value(Graph&, const std::vector<Value>&)> build;
  std::function<Doubles(const std::vector<Doubles>&)> reference;  // output 0, plain order
};

// x of (N, C, H, W) walked with a function of (channel, value).
Doubles map_channels(const Shape& s, const Doubles& x,
                     const std::function<double(std::int64_t, double)>& f) {
  Doubles y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    y[i] = f(static_cast<std::int64_t>(i) / (s[2] * s[3]) % s[1], x[i]);
  }
  return y;
}

// (x - mean) / sqrt(variance + eps), biased, over sets of elements.
Doubles standardise(const Doubles& x, const std::function<std::int64_t(std::size_t)>& set_of,
                    std::int64_t num_sets) {
  const auto sets = static_cast<std::size_t>(num_sets);
  Doubles sum(sets), squares(sets), count(sets), y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    sum[set_of(i)] += x[i];
    count[set_of(i)] += 1;
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double d = x[i] - sum[set_of(i)] / count[set_of(i)];
    squares[set_of(i)] += d * d;
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t s = set_of(i);
    y[i] = (x[i] - sum[s] / count[s]) / std::sqrt(squares[s] / count[s] + 1e-5);
  }
  return y;
}

OpCase batch_norm_case(const Shape& s) {
  const Shape c = {s[1]};
  return {
      "batch_norm",
      {{"x", s, -1.0f, 3.0f}, {"gamma", c, 0.5f, 1.5f}, {"beta", c}},
      [=](Graph& g, const std::vector<Value>& v) {
        return batch_norm(g, v[0], {v[1], v[2], constant(g, "m", c), constant(g, "v", c)}, 1e-5f);
      },
      [=](const std::vector<Doubles>& v) {
        const auto set = [=](std::size_t i) {
          return static_cast<std::int64_t>(i) / (s[2] * s[3]) % s[1];
        };
        return map_channels(s, standardise(v[0], set, s[1]),
                            [&](std::int64_t k, double z) { return z * v[1][k] + v[2][k]; });
      }};
}

OpCase group_norm_case(const Shape& s, int groups) {
  const Shape c = {s[1]};
  return {"group_norm",
          {{"x", s, -1.0f, 3.0f}, {"gamma", c, 0.5f, 1.5f}, {"beta", c}},
          [=](Graph& g, const std::vector<Value>& v) {
            return group_norm(g, v[0], v[1], v[2], groups, 1e-5f);
          },
          [=](const std::vector<Doubles>& v) {
            const auto set = [=](std::size_t i) {
              return static_cast<std::int64_t>(i) / (s[2] * s[3] * s[1] / groups);
            };
            return map_channels(s, standardise(v[0], set, s[0] * groups),
                                [&](std::int64_t k, double z) { return z * v[1][k] + v[2][k]; });
          }};
}

OpCase frozen_norm_case(const Shape& s) {
  const Shape c = {s[1]};
  return {"frozen_norm",
          {{"x", s},
           {"gamma", c, 0.5f, 1.5f, false},
           {"beta", c, -1.0f, 1.0f, false},
           {"mean", c, -1.0f, 1.0f, false},
           {"variance", c, 0.2f, 2.0f, false}},
          [](Graph& g, const std::vector<Value>& v) {
            return frozen_norm(g, v[0], {v[1], v[2], v[3], v[4]}, 1e-5f);
          },
          [=](const std::vector<Doubles>& v) {
            return map_channels(s, v[0], [&](std::int64_t k, double x) {
              return (x - v[3][k]) / std::sqrt(v[4][k] + 1e-5) * v[1][k] + v[2][k];
            });
          }};
}

OpCase max_pool_case(const Shape& s, int window, int stride, int padding) {
  return {
      "max_pool",
      {{"x", s}},
      [=](Graph& g, const std::vector<Value>& v) {
        return max_pool(g, v[0], window, stride, padding);
      },
      [=](const std::vector<Doubles>& v) {
        Doubles y;
        const std::int64_t rows = (s[2] + 2 * padding - window) / stride + 1;
        const std::int64_t columns = (s[3] + 2 * padding - window) / stride + 1;
        for (std::int64_t plane = 0; plane < s[0] * s[1]; ++plane)
          for (std::int64_t h = 0; h < rows; ++h)
            for (std::int64_t w = 0; w < columns; ++w) {
              double best = -1e30;
              for (std::int64_t i = h * stride - padding; i < h * stride - padding + window; ++i)
                for (std::int64_t j = w * stride - padding; j < w * stride - padding + window; ++j)
                  if (i >= 0 && j >= 0 && i < s[2] && j < s[3])
                    best = std::max(best, v[0][(plane * s[2] + i) * s[3] + j]);
              y.push_back(best);
            }
        return y;
      }};
}

OpCase upsample_case(const Shape& s, std::int64_t height, std::int64_t width) {
  return {"upsample_nearest",
          {{"x", s}},
          [=](Graph& g, const std::vector<Value>& v) {
            return upsample_nearest(g, v[0], height, width);
          },
          [=](const std::vector<Doubles>& v) {
            Doubles y;
            for (std::int64_t plane = 0; plane < s[0] * s[1]; ++plane)
              for (std::int64_t h = 0; h < height; ++h)
                for (std::int64_t w = 0; w < width; ++w)
                  y.push_back(v[0][(plane * s[2] + h * s[2] / height) * s[3] + w * s[3] / width]);
            return y;
          }};
}

std::vector<OpCase> cases() {
  const Shape whole = {2, 16, 5, 6}, broken = {2, 20, 3, 5};  // channels that fill no block
  std::vector<OpCase> all;
  for (const Shape& s : {whole, broken}) {
    all.push_back({"relu",
                   {{"x", s}},
                   [](Graph& g, const std::vector<Value>& v) { return relu(g, v[0]); },
                   [](const std::vector<Doubles>& v) {
                     Doubles y = v[0];
                     for (double& x : y) x = std::max(x, 0.0);
                     return y;
                   }});
    all.push_back({"add",
                   {{"a", s}, {"b", s}},
                   [](Graph& g, const std::vector<Value>& v) { return add(g, v[0], v[1]); },
                   [](const std::vector<Doubles>& v) {
                     Doubles y = v[0];
                     for (std::size_t i = 0; i < y.size(); ++i) y[i] += v[1][i];
                     return y;
                   }});
    all.push_back(frozen_norm_case(s));
    all.push_back(batch_norm_case(s));
    all.push_back(group_norm_case(s, 4));
    all.push_back(max_pool_case(s, 3, 2, 1));
    all.push_back(upsample_case(s, 2 * s[2], 2 * s[3]));
    all.push_back(upsample_case(s, 2 * s[2] - 1, s[3] + 3));
  }
  all.push_back(group_norm_case({1, 6, 2, 2}, 1));
  all.push_back(group_norm_case({1, 6, 4, 2}, 6));
  all.push_back(max_pool_case({1, 3, 8, 8}, 2, 2, 0));
  all.push_back(upsample_case({1, 3, 1, 1}, 2, 5));
  return all;
}

// The op as the last node of a graph of nothing else.
Graph graph_of(const OpCase& c) {
  Graph graph;
  std::vector<Value> inputs;
  for (const Input& input : c.inputs) inputs.push_back(graph.input(input.name, {{}, input.shape}));
  c.build(graph, inputs);
  return graph;
}

struct Point {
  std::vector<KernelInput> inputs;
  std::vector<Doubles> doubles;
};

Point point(const OpCase& c) {
  Point p;
  for (const Input& input : c.inputs) {
    const auto v = values(c.name + input.name, input.shape.count(), input.low, input.high);
    p.inputs.push_back({input.shape, v, {}, input.shape.rank != 4});
    p.doubles.emplace_back(v.begin(), v.end());
  }
  return p;
}

// d sum(dy y) / d x(i) of the reference.
double slope(const OpCase& c, std::vector<Doubles>& at, const std::vector<float>& dy,
             std::size_t input, std::size_t i) {
  constexpr double kStep = 1e-6;
  const double x = at[input][i];
  double result = 0;
  for (double sign : {1.0, -1.0}) {
    at[input][i] = x + sign * kStep;
    const Doubles y = c.reference(at);
    for (std::size_t k = 0; k < y.size(); ++k) result += sign * y[k] * dy[k];
  }
  at[input][i] = x;
  return result / (2 * kStep);
}

class SmallOps : public ::testing::TestWithParam<DeviceCase> {
 protected:
  // Calls test(case, point, run) for every case in every physical order.
  template <typename Test>
  void for_each_run(Test test) {
    for (const OpCase& c : cases()) {
      for (int block : channel_blocks(GetParam())) {
        SCOPED_TRACE(c.name + " " + to_string(c.inputs[0].shape) + " block " +
                     std::to_string(block));
        Point p = point(c);
        KernelRun run(GetParam(), graph_of(c), p.inputs, block);
        run.forward();
        test(c, p, run);
      }
    }
  }
};

TEST_P(SmallOps, ForwardEqualsReference) {
  for_each_run([](const OpCase& c, Point& p, KernelRun& run) {
    const Doubles expected = c.reference(p.doubles);
    const auto got = run.output();
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 2e-6) << i;
    EXPECT_TRUE(run.padding_is_zero());
  });
}

TEST_P(SmallOps, GradientsAreTheReferencesSlopes) {
  for_each_run([](const OpCase& c, Point& p, KernelRun& run) {
    const auto dy = values("dy", static_cast<std::int64_t>(run.output().size()));
    std::vector<GradientMode> modes;
    for (const Input& input : c.inputs) {
      modes.push_back(input.differentiable ? GradientMode::kOverwrite : GradientMode::kNone);
    }
    run.backward(dy, modes);
    EXPECT_TRUE(run.padding_is_zero());
    for (std::size_t input = 0; input < c.inputs.size(); ++input) {
      if (!c.inputs[input].differentiable) continue;
      const auto gradient = run.gradient(static_cast<int>(input));
      const std::size_t stride = std::max<std::size_t>(1, gradient.size() / 48);
      for (std::size_t i = 0; i < gradient.size(); ++i) {
        ASSERT_TRUE(std::isfinite(gradient[i])) << c.inputs[input].name << i;
        if (i % stride != 0) continue;
        const double expected = slope(c, p.doubles, dy, input, i);
        ASSERT_NEAR(gradient[i], expected, 2e-5 * std::max(1.0, std::abs(expected)))
            << c.inputs[input].name << "[" << i << "]";
      }
    }
  });
}

TEST_P(SmallOps, AccumulatesOntoWhatIsThere) {
  for_each_run([](const OpCase& c, Point&, KernelRun& run) {
    const auto dy = values("dy", static_cast<std::int64_t>(run.output().size()));
    std::vector<GradientMode> overwrite, accumulate;
    std::vector<std::vector<float>> initial;
    for (const Input& input : c.inputs) {
      const bool wanted = input.differentiable;
      overwrite.push_back(wanted ? GradientMode::kOverwrite : GradientMode::kNone);
      accumulate.push_back(wanted ? GradientMode::kAccumulate : GradientMode::kNone);
      initial.push_back(values("initial", input.shape.count()));
    }
    run.backward(dy, overwrite);
    std::vector<std::vector<float>> alone(c.inputs.size());
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      if (c.inputs[i].differentiable) alone[i] = run.gradient(static_cast<int>(i));
    }
    run.backward(dy, accumulate, initial);
    EXPECT_TRUE(run.padding_is_zero());
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      if (!c.inputs[i].differentiable) continue;
      const auto sum = run.gradient(static_cast<int>(i));
      for (std::size_t k = 0; k < sum.size(); ++k) {
        ASSERT_NEAR(sum[k], alone[i][k] + initial[i][k], 1e-5) << c.inputs[i].name << k;
      }
    }
  });
}

// One wanted gradient at a time: what is not wanted has no memory.
TEST_P(SmallOps, GradientsAreIndependent) {
  for_each_run([](const OpCase& c, Point&, KernelRun& run) {
    const auto dy = values("dy", static_cast<std::int64_t>(run.output().size()));
    std::vector<GradientMode> all;
    for (const Input& input : c.inputs) {
      all.push_back(input.differentiable ? GradientMode::kOverwrite : GradientMode::kNone);
    }
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      if (!c.inputs[i].differentiable) continue;
      run.backward(dy, all);
      const auto expected = run.gradient(static_cast<int>(i));
      std::vector<GradientMode> one(c.inputs.size(), GradientMode::kNone);
      one[i] = GradientMode::kOverwrite;
      run.backward(dy, one);
      EXPECT_EQ(run.gradient(static_cast<int>(i)), expected) << c.inputs[i].name;
    }
  });
}

// Inside a plan, where each input of the op is used a second time, so that gradients accumulate.
TEST_P(SmallOps, NumericGradientsInAPlan) {
  for (const OpCase& c : cases()) {
    SCOPED_TRACE(c.name + " " + to_string(c.inputs[0].shape));
    Graph graph;
    std::vector<Value> inputs;
    std::map<std::string, std::vector<float>> at;
    std::vector<std::string> variables;
    for (const Input& input : c.inputs) {
      const auto declare = input.differentiable ? variable : constant;
      Value v = declare(graph, input.name, input.shape);
      if (input.shape.rank == 4) v = add(graph, v, v);
      inputs.push_back(v);
      // half, because it is doubled; away from the kinks of relu and max_pool by 1e-3 at least
      auto start = values(c.name + input.name, input.shape.count(), input.low, input.high);
      if (input.shape.rank == 4) {
        for (float& x : start) x = std::round(x * 128) / 256 + 1.0f / 512;
      }
      at[input.name] = start;
      if (input.differentiable) variables.push_back(input.name);
    }
    Value y = c.build(graph, inputs);
    if (graph.shape(y) == graph.shape(inputs[0])) y = add(graph, y, inputs[0]);
    random_projection_loss(graph, y);
    Program program(graph, true, GetParam());
    expect_numeric_gradients(program, at, variables, 1e-2, 1e-3);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, SmallOps, ::testing::ValuesIn(devices()), device_name);

TEST(BatchNorm, StatisticsAreMeanAndUnbiasedVariance) {
  Graph graph;
  const Shape s = {3, 20, 4, 5}, c = {20};
  const Value x = variable(graph, "x", s);
  const auto statistic = [&](const char* name) {
    return graph.parameter({name, c, ParameterKind::kStatistic});
  };
  random_projection_loss(graph, batch_norm(graph, relu(graph, x),
                                           {variable(graph, "gamma", c), variable(graph, "beta", c),
                                            statistic("mean"), statistic("variance")},
                                           1e-5f));
  Program program(graph, true, devices()[0]);
  const auto v = values("x", s.count(), 1.0f, 2.0f);
  program.set_parameter("x", v);
  program.run();
  const auto mean = program.gradient("mean"), variance = program.gradient("variance");
  for (std::int64_t k = 0; k < 20; ++k) {
    double sum = 0, squares = 0;
    const auto at = [&](int i) { return double{v[((i / 20) * 20 + k) * 20 + i % 20]}; };
    for (int i = 0; i < 60; ++i) sum += at(i);
    for (int i = 0; i < 60; ++i) squares += (at(i) - sum / 60) * (at(i) - sum / 60);
    EXPECT_NEAR(mean[k], sum / 60, 1e-6);
    EXPECT_NEAR(variance[k], squares / 59, 1e-6);
  }
}

// A batch norm with what it absorbs, or the same as ops of their own; `doubled`: x is the residual.
Graph norm_block(bool absorbed, bool residual, bool doubled) {
  Graph graph;
  const Shape s = {3, 20, 9, 11}, c = {20};
  const auto statistic = [&](const char* name) {
    return graph.parameter({name, c, ParameterKind::kStatistic});
  };
  // Of relu: parameters themselves would stay plain.
  const Value x = relu(graph, variable(graph, "x", s));
  const Value other = relu(graph, variable(graph, "r", s));
  const Value r = doubled ? x : other;
  const BatchNormParameters p = {variable(graph, "gamma", c), variable(graph, "beta", c),
                                 statistic("mean"), statistic("variance")};
  Value y;
  if (absorbed) {
    std::vector<Value> inputs = {x, p.gamma, p.beta};
    if (residual) inputs.push_back(r);
    const BatchNormOp::Fused fused{.residual = residual, .relu = true};
    const auto outputs = graph.add(std::make_shared<BatchNormOp>(1e-5f, fused), inputs);
    graph.statistic(p.running_mean, outputs[1]);
    graph.statistic(p.running_variance, outputs[3]);
    y = outputs[0];
  } else {
    y = batch_norm(graph, x, p, 1e-5f);
    if (residual) y = add(graph, y, r);
    y = relu(graph, y);
  }
  random_projection_loss(graph, doubled || !residual ? add(graph, y, other) : y);
  return graph;
}

TEST(BatchNorm, AbsorbedOpsGiveTheSameBits) {
  for (const auto& [residual, doubled] : {std::pair(false, false), {true, false}, {true, true}}) {
    Program absorbed(norm_block(true, residual, doubled), true, devices()[0], true,
                     {"add", "relu"});
    Program separate(norm_block(false, residual, doubled), true, devices()[0], true,
                     {"add", "relu"});
    for (Program* program : {&absorbed, &separate}) {
      program->set_parameter("x", values("x", 3 * 20 * 99));
      program->set_parameter("r", values("r", 3 * 20 * 99));
      program->set_parameter("gamma", values("gamma", 20, 0.5f, 1.5f));
      program->set_parameter("beta", values("beta", 20));
      program->run();
    }
    for (const char* name : {"x", "r", "gamma", "beta", "mean", "variance"}) {
      EXPECT_EQ(absorbed.gradient(name), separate.gradient(name)) << name << residual << doubled;
    }
  }
}

TEST(BatchNorm, AbsorbsAResidualOnceAndARelu) {
  const BatchNormOp plain(1e-5f);
  const auto sum = plain.absorb(AddOp(), 0);
  ASSERT_TRUE(sum);
  EXPECT_FALSE(sum->absorb(AddOp(), 0));
  const auto activated = sum->absorb(ReluOp(), 0);
  ASSERT_TRUE(activated);
  EXPECT_EQ(activated->attributes(), "eps 1e-05 +residual +relu");
  EXPECT_FALSE(activated->absorb(ReluOp(), 0));
  EXPECT_FALSE(activated->absorb(AddOp(), 0));
  EXPECT_FALSE(plain.absorb(plain, 0));
}

TEST(UpsampleNearest, SourcesArePyTorchsForEveryPyramid) {
  // PyTorch: floor(h * float(in) / out) in float; the sizes of neighbouring levels are in -> 2 in
  // or 2 in - 1.
  for (std::int64_t in = 1; in <= 1024; ++in) {
    for (std::int64_t out : {2 * in, 2 * in - 1}) {
      const float scale = static_cast<float>(in) / static_cast<float>(out);
      for (std::int64_t h = 0; h < out; ++h) {
        const auto source = static_cast<std::int64_t>(std::floor(static_cast<float>(h) * scale));
        ASSERT_EQ(h * in / out, std::min(source, in - 1)) << in << " -> " << out << " at " << h;
      }
    }
  }
}

TEST(SmallOpShapes, AreChecked) {
  Graph graph;
  const Value x = variable(graph, "x", {1, 4, 6, 6}), y = variable(graph, "y", {1, 4, 6, 5});
  EXPECT_THROW(add(graph, x, y), comm::Error);
  EXPECT_THROW(upsample_nearest(graph, x, 5, 6), comm::Error);
  EXPECT_THROW(max_pool(graph, x, 9, 1, 0), comm::Error);
  const Value c = variable(graph, "c", {3});
  EXPECT_THROW(group_norm(graph, x, c, c, 3, 1e-5f), comm::Error);
  EXPECT_THROW(frozen_norm(graph, x, {c, c, c, c}, 1e-5f), comm::Error);
  EXPECT_THROW(batch_norm(graph, x, {c, c, c, c}, 1e-5f), comm::Error);
}

}  // namespace
}  // namespace models::testing
