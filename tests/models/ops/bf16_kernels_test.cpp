// Every op over activations in bf16 against itself in fp32 from the same, representable, values:
// what differs is how results are rounded, once each unless a case says otherwise.
#include "comm/bf16.h"
#include "models/ops/add.h"
#include "models/ops/batch_norm.h"
#include "models/ops/conv2d.h"
#include "models/ops/conv_transpose2d.h"
#include "models/ops/crop.h"
#include "models/ops/cross_entropy.h"
#include "models/ops/detection_loss.h"
#include "models/ops/flatten.h"
#include "models/ops/frozen_norm.h"
#include "models/ops/global_avg_pool.h"
#include "models/ops/group_norm.h"
#include "models/ops/max_pool.h"
#include "models/ops/relu.h"
#include "models/ops/resize_bilinear.h"
#include "models/ops/scale.h"
#include "models/ops/sync_norm.h"
#include "models/ops/upsample_nearest.h"
#include "tests/models/ops/conv_engine_fixture.h"
#include "tests/models/ops/kernel_fixture.h"

namespace models::testing {
namespace {

using Floats = std::vector<float>;
using M = GradientMode;

constexpr double kRounding = 1.0 / 256;  // relative, of one store
constexpr double kFp32 = 3e-5;           // of the largest value: sums of some thousand terms

struct Case {
  std::string name;
  Graph graph;  // whose last node is the op
  std::vector<KernelInput> inputs;
  OnGpu::Compile compile = {};  // the kernel of GPUs, where the op has another for CPUs
  // Roundings before the last one, of values as large as the largest result.
  double forward_steps = 0, backward_steps = 0;
};

Floats rounded(Floats values) {
  for (float& value : values) value = comm::Bf16(value);
  return values;
}

KernelInput activation(const std::string& name, const Shape& shape, float reach = 1.0f) {
  return {shape, rounded(values(name, shape.count(), -reach, reach))};
}
KernelInput parameter(const std::string& name, const Shape& shape, float low = -1.0f) {
  return {shape, rounded(values(name, shape.count(), low, 1.0f)), {}, true};
}

// build(graph, the inputs as values)
template <typename Build>
Case make_case(const std::string& name, std::vector<KernelInput> inputs, const Build& build) {
  Case c{name, {}, std::move(inputs)};
  std::vector<Value> v;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const Type type = c.inputs[i].integers.empty() ? Type::kF32 : Type::kI32;
    v.push_back(c.graph.input("input" + std::to_string(i), {type, c.inputs[i].shape}));
  }
  build(c.graph, v);
  return c;
}

class Bf16Kernels : public ::testing::TestWithParam<DeviceCase> {
 protected:
  const Op& op(const Case& c) const { return *c.graph.nodes().back().op; }

  // In bf16 on the device; the kernel of GPUs runs on the host where the device is the CPU.
  KernelRun bf16_run(const Case& c, bool epilogues, int block) const {
    if (GetParam().kind != comm::DeviceKind::kCpu || !c.compile) {
      return {GetParam(), c.graph, c.inputs, block, Type::kBF16};
    }
    Graph graph = c.graph;
    std::vector<Value> inputs = graph.nodes().back().inputs;
    graph.add(std::make_shared<OnGpu>(graph.nodes().back().op, reference_library(epilogues),
                                      c.compile),
              inputs);
    return {GetParam(), graph, c.inputs, block, Type::kBF16};
  }

  static void expect_close(const Floats& got, const Floats& expected, double steps, bool rounds,
                           const std::string& what) {
    ASSERT_EQ(got.size(), expected.size()) << what;
    double largest = 1e-3;
    for (float value : expected) largest = std::max(largest, std::abs(double{value}));
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double once = rounds ? kRounding * std::abs(expected[i]) : 0;
      ASSERT_NEAR(got[i], expected[i], once + (kRounding * steps + kFp32) * largest)
          << what << " [" << i << "]";
    }
  }

  std::vector<M> modes_of(const Case& c, M mode) const {
    std::vector<M> modes;
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      modes.push_back(op(c).differentiable(static_cast<int>(i)) ? mode : M::kNone);
    }
    return modes;
  }

  void expect_backward(const Case& c, KernelRun& got, KernelRun& expected) const {
    const auto count = static_cast<std::int64_t>(expected.output().size());
    const Floats dy = rounded(values("dy", count));
    std::vector<Floats> initial;
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      initial.push_back(rounded(values("initial" + std::to_string(i), c.inputs[i].shape.count())));
    }
    for (M mode : {M::kOverwrite, M::kAccumulate}) {
      expected.backward(dy, modes_of(c, mode), initial);
      got.backward(dy, modes_of(c, mode), initial);
      EXPECT_TRUE(got.padding_is_zero());
      for (std::size_t i = 0; i < c.inputs.size(); ++i) {
        const int input = static_cast<int>(i);
        if (!op(c).differentiable(input)) continue;
        // Sums over channels are fp32; a filter's comes rounded out of its engine.
        const bool fp32 = c.inputs[i].parameter && c.inputs[i].shape.rank != 4;
        expect_close(got.gradient(input), expected.gradient(input), fp32 ? 0 : c.backward_steps,
                     !fp32, "gradient " + std::to_string(i) + (mode == M::kOverwrite ? "" : " +="));
      }
    }
  }

  void expect_same(const Case& c, bool epilogues = true) const {
    for (int block : {1, kAllChannels}) {
      SCOPED_TRACE(c.name + (block == 1 ? " plain" : " channels last"));
      KernelRun expected(DeviceCase{}, c.graph, c.inputs, 1);
      KernelRun got = bf16_run(c, epilogues, block);
      expected.forward();
      got.forward();
      expect_close(got.output(), expected.output(), c.forward_steps, true, "output");
      bool differentiable = false;
      for (M mode : modes_of(c, M::kOverwrite)) differentiable |= mode != M::kNone;
      if (differentiable) expect_backward(c, got, expected);
    }
  }
};

const Shape kShape = {2, 20, 6, 7};

TEST_P(Bf16Kernels, Elementwise) {
  const KernelInput x = activation("x", kShape), y = activation("y", kShape);
  expect_same(make_case("add", {x, y}, [](Graph& g, auto& v) { add(g, v[0], v[1]); }));
  expect_same(make_case("relu", {x}, [](Graph& g, auto& v) { relu(g, v[0]); }));
  expect_same(make_case("scale", {x}, [](Graph& g, auto& v) { scale(g, v[0], 0.3f); }));
  const Shape c = {kShape[1]};
  expect_same(make_case("frozen_norm",
                        {x, parameter("gamma", c), parameter("beta", c), parameter("mean", c),
                         parameter("variance", c, 0.2f)},
                        [](Graph& g, auto& v) {
                          frozen_norm(g, v[0], {v[1], v[2], v[3], v[4]}, 1e-5f);
                        }));
}

TEST_P(Bf16Kernels, Moves) {
  const KernelInput x = activation("x", kShape);
  expect_same(make_case("crop", {x}, [](Graph& g, auto& v) { crop(g, v[0], {-1, 2, 5, 8}); }));
  expect_same(make_case("flatten", {x}, [](Graph& g, auto& v) { flatten(g, v[0]); }));
  for (const Shape& to : {Shape{11, 14}, Shape{6, 13}}) {
    expect_same(make_case("upsample " + to_string(to), {x},
                          [&](Graph& g, auto& v) { upsample_nearest(g, v[0], to[0], to[1]); }));
  }
}

TEST_P(Bf16Kernels, Resampling) {
  const KernelInput x = activation("x", kShape);
  for (Case c : {make_case("resize", {x},
                           [](Graph& g, auto& v) { resize_bilinear(g, v[0], 15, 9); }),
                 make_case("deconvolution", {x}, [](Graph& g, auto& v) {
                   upsample_deconvolution(g, v[0], 4, {2, 1, 1});
                 })}) {
    KernelRun expected(DeviceCase{}, c.graph, c.inputs, 1);
    KernelRun got = bf16_run(c, true, 1);  // plain order only
    expected.forward();
    got.forward();
    expect_close(got.output(), expected.output(), 0, true, c.name);
    expect_backward(c, got, expected);
  }
}

TEST_P(Bf16Kernels, Pooling) {
  const KernelInput x = activation("x", kShape);
  expect_same(make_case("mean", {x}, [](Graph& g, auto& v) { global_avg_pool(g, v[0]); }));
  for (int stride : {1, 2}) {
    Case c = make_case("max", {x}, [&](Graph& g, auto& v) { max_pool(g, v[0], 3, stride, 1); });
    const MaxPoolOp pool(3, stride, 1, false);
    c.compile = [pool](const KernelContext& k) { return compile_max_pool_gpu(pool, k); };
    expect_same(c);
  }
}

TEST_P(Bf16Kernels, Normalisation) {
  for (const Shape& s : {kShape, Shape{3, 4, 31, 33}}) {
    const KernelInput x = activation("x", s, 2.0f);
    const KernelInput gamma = parameter("gamma", {s[1]}), beta = parameter("beta", {s[1]});
    expect_same(make_case("group", {x, gamma, beta}, [](Graph& g, auto& v) {
      group_norm(g, v[0], v[1], v[2], 2, 1e-5f);
    }));
    const auto op = std::make_shared<BatchNormOp>(1e-5f);
    Case batch = make_case("batch", {x, gamma, beta}, [&](Graph& g, auto& v) { g.add(op, v); });
    batch.compile = [op](const KernelContext& k) { return compile_batch_norm_gpu(*op, k); };
    expect_same(batch);
  }
}

// Both halves of the norm over the global batch; moments and their gradients stay fp32.
TEST_P(Bf16Kernels, SynchronisedNormalisation) {
  Graph graph;
  const Shape c = {kShape[1]};
  const Value x = graph.input("x", {Type::kF32, kShape});
  const auto statistic = [&](const char* name) {
    return graph.parameter({name, c, ParameterKind::kStatistic});
  };
  sync_batch_norm(graph, x,
                  {graph.input("gamma", {Type::kF32, c}), graph.input("beta", {Type::kF32, c}),
                   statistic("mean"), statistic("variance")},
                  1e-5f);
  const auto nodes = graph.nodes();
  const KernelInput from = activation("x", kShape, 2.0f);
  expect_same(make_case("moments", {from}, [&](Graph& g, auto& v) { g.add(nodes[0].op, v); }));
  KernelInput moments = parameter("moments", {3, kShape[1]}, 0.5f);
  for (std::int64_t i = 0; i < kShape[1]; ++i) moments.values[i] = 84.0f;  // the count
  expect_same(make_case("normalise", {from, moments, parameter("gamma", c), parameter("beta", c)},
                        [&](Graph& g, auto& v) { g.add(nodes[1].op, v); }));
}

Case conv_case(const Shape& x, const Shape& w, const ConvAttributes& attributes,
               const Conv2dOp::Fused& fused) {
  const auto op = std::make_shared<Conv2dOp>(attributes, fused);
  std::vector<KernelInput> inputs;
  for (const ConvOperand& o : conv_operands(*op, x, w)) {
    inputs.push_back(o.parameter ? parameter(o.name, o.shape, o.low) : activation(o.name, o.shape));
  }
  Case c = make_case(op->attributes() + " " + to_string(w), inputs,
                     [&](Graph& g, auto& v) { g.add(op, v); });
  c.compile = [op](const KernelContext& k) { return compile_conv2d_gpu(*op, k); };
  // An engine without epilogue rounds before shift and residual; a gradient that is added, before.
  // Weights with a norm folded in are rounded: half a step each, of terms that add up to more than
  // the largest result.
  c.forward_steps = c.backward_steps = fused.norm ? 3 : 1;
  return c;
}

TEST_P(Bf16Kernels, Convolution) {
  for (bool epilogues : {true, false}) {
    for (const Conv2dOp::Fused& fused :
         {Conv2dOp::Fused{}, Conv2dOp::Fused{.bias = true}, Conv2dOp::Fused{.residual = true},
          Conv2dOp::Fused{.norm = true, .norm_eps = 1e-5f}}) {
      expect_same(conv_case({2, 6, 8, 7}, {10, 6, 3, 3}, {1, 1, 1, 1}, fused), epilogues);
      expect_same(conv_case({2, 6, 8, 7}, {10, 6, 1, 1}, {2, 0, 1, 1}, fused), epilogues);
      expect_same(conv_case({1, 8, 6, 6}, {12, 4, 3, 3}, {1, 1, 2, 2}, fused), epilogues);
      expect_same(conv_case({1, 4, 5, 5}, {1, 4, 3, 3}, {1, 1, 1, 1}, fused), epilogues);
      expect_same(conv_case({1, 1, 5, 5}, {4, 1, 3, 3}, {1, 1, 1, 1}, fused), epilogues);
    }
  }
}

// With a ReLU a value near zero may fall on the other side, and its gradient with it; so the shift
// keeps them away.
TEST_P(Bf16Kernels, ConvolutionWithRelu) {
  Case c = conv_case({2, 6, 8, 7}, {8, 6, 3, 3}, {1, 1, 1, 1}, {.bias = true, .relu = true});
  for (std::size_t o = 0; o < 8; ++o) c.inputs[2].values[o] = o % 2 == 0 ? 32.0f : -32.0f;
  for (bool epilogues : {true, false}) expect_same(c, epilogues);
}

TEST_P(Bf16Kernels, TransposedConvolution) {
  struct Sizes {
    Shape x, w;
    ConvTransposeAttributes attributes;
  };
  for (const Sizes& s : {Sizes{{2, 3, 4, 5}, {3, 6, 4, 4}, {2, 1, 1}},
                         Sizes{{1, 4, 3, 3}, {4, 3, 3, 3}, {1, 0, 2}}}) {
    Case c = make_case("transposed", {activation("x", s.x), parameter("w", s.w)},
                       [&](Graph& g, auto& v) { conv_transpose2d(g, v[0], v[1], s.attributes); });
    c.compile = [s](const KernelContext& k) {
      return compile_conv_transpose2d_gpu(s.attributes, k);
    };
    c.backward_steps = 1;
    for (bool epilogues : {true, false}) {
      KernelRun expected(DeviceCase{}, c.graph, c.inputs, 1);
      KernelRun got = bf16_run(c, epilogues, 1);  // plain order only
      expected.forward();
      got.forward();
      expect_close(got.output(), expected.output(), 0, true, c.name);
      expect_backward(c, got, expected);
    }
  }
}

// The image of a batch is fp32 and plain: the convolution that reads it rounds it itself.
TEST_P(Bf16Kernels, ConvolutionOfAnFp32Image) {
  const Shape x = {2, 3, 9, 11}, w = {8, 3, 7, 7};
  const auto op = std::make_shared<Conv2dOp>(ConvAttributes{2, 3, 1, 1}, Conv2dOp::Fused{});
  for (auto format : {Precision::kFp32, Precision::kBf16}) {
    if (GetParam().kind == comm::DeviceKind::kCpu && format == Precision::kBf16) continue;
    Graph graph;
    const Value image = graph.input("image", {Type::kF32, x});
    graph.output("y", graph.add(op, {image, variable(graph, "w", w)})[0]);
    DeviceCase device = GetParam();
    device.precision = format;
    Program program(graph, false, device);
    program.set_input("image", rounded(values("image", x.count())));
    program.set_parameter("w", rounded(values("w", w.count())));
    program.run();
    Program expected(graph, false, DeviceCase{});
    expected.set_input("image", rounded(values("image", x.count())));
    expected.set_parameter("w", rounded(values("w", w.count())));
    expected.run();
    expect_close(program.output("y"), expected.output("y"), 0, true, "y");
  }
}

TEST_P(Bf16Kernels, CrossEntropyIsThatOfFp32) {
  const Shape x = {2, 21, 5, 6};
  std::vector<std::int32_t> labels(60);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    labels[i] = i % 7 == 0 ? 255 : static_cast<std::int32_t>(i % 21);
  }
  const Case c = make_case("cross_entropy", {activation("x", x, 8.0f), {{2, 5, 6}, {}, labels}},
                           [](Graph& g, auto& v) {
                             cross_entropy(g, v[0], v[1], {.ignore = 255, .label_smoothing = 0.1f});
                           });
  expect_same(c);
  KernelRun expected(DeviceCase{}, c.graph, c.inputs, 1);
  KernelRun got = bf16_run(c, true, kAllChannels);
  expected.forward();
  got.forward();
  EXPECT_NEAR(got.output()[0], expected.output()[0], 1e-6);  // the loss itself is never rounded
}

TEST_P(Bf16Kernels, DetectionLossesAreThoseOfFp32) {
  constexpr int kClasses = 3;
  const std::vector<Shape> cells = {{2, 1, 4, 6}, {2, 1, 2, 3}};
  const auto grid = make_anchors(32, 48, cells, std::vector<int>{32, 64},
                                 std::vector<double>{0.5, 1.0, 2.0});
  const Shape per_anchor = {2, grid->total()};
  std::vector<std::int32_t> match(static_cast<std::size_t>(per_anchor.count()), kBackground);
  for (std::size_t i = 0; i < match.size(); i += 7) match[i] = static_cast<std::int32_t>(i % 2);
  for (std::size_t i = 3; i < match.size(); i += 11) match[i] = kIgnored;
  for (bool focal : {true, false}) {
    const std::int64_t channels = 9 * (focal ? kClasses : 4);
    std::vector<KernelInput> inputs;
    for (const Shape& s : cells) {
      const Shape head = {s[0], channels, s[2], s[3]};
      inputs.push_back(activation(to_string(head), head, 3.0f));
    }
    inputs.push_back({per_anchor, {}, match});
    inputs.push_back({{2}, {0.25f, 0.125f}});
    if (!focal) {
      inputs.push_back({{2, 2, 4}, {4, 4, 40, 30, 10.5, 2, 45, 31, 20, 20, 27, 28, 1, 2, 3, 4}});
    }
    const Case c = make_case(focal ? "focal" : "box", inputs, [&](Graph& g, auto& v) {
      const Matches matches{v[2], v[2], v[3]};
      focal ? focal_loss(g, grid, {v[0], v[1]}, matches, kClasses)
            : box_loss(g, grid, {v[0], v[1]}, v[4], matches);
    });
    expect_same(c);
    KernelRun expected(DeviceCase{}, c.graph, c.inputs, 1);
    KernelRun got = bf16_run(c, true, kAllChannels);
    expected.forward();
    got.forward();
    EXPECT_NEAR(got.output()[0], expected.output()[0], 1e-6 * expected.output()[0]) << c.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Bf16Kernels, ::testing::ValuesIn(devices()), device_name);

}  // namespace
}  // namespace models::testing
