// Kernels of a GPU, run on the host, against those of the CPU: every physical order, overwriting
// and accumulating.
#include "models/ops/batch_norm.h"
#include "models/ops/conv2d.h"
#include "models/ops/conv_transpose2d.h"
#include "models/ops/linear.h"
#include "models/ops/max_pool.h"
#include "models/ops/on_host.h"
#include "tests/models/ops/conv_engine_fixture.h"
#include "tests/models/ops/kernel_fixture.h"

namespace models::testing {
namespace {

using Floats = std::vector<float>;
using M = GradientMode;

struct Case {
  std::string name;
  std::shared_ptr<const Op> op;
  OnGpu::Compile compile;
  std::vector<KernelInput> inputs;
};

// A graph whose last node is the op.
Graph graph_of(const std::shared_ptr<const Op>& op, const std::vector<KernelInput>& inputs) {
  Graph graph;
  std::vector<Value> values;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    values.push_back(graph.input("input" + std::to_string(i), {Type::kF32, inputs[i].shape}));
  }
  graph.add(op, values);
  return graph;
}

KernelRun run_of(const std::shared_ptr<const Op>& op, const Case& c, int block) {
  return {DeviceCase{}, graph_of(op, c.inputs), c.inputs, block};
}

// Within rounding of sums of up to some thousand terms.
void expect_close(const Floats& got, const Floats& expected, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  float scale = 1.0f;
  for (float value : expected) scale = std::max(scale, std::abs(value));
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], expected[i], 3e-5f * scale) << what << " [" << i << "]";
  }
}

std::vector<M> modes_of(const Case& c, M mode) {
  std::vector<M> modes;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    modes.push_back(c.op->differentiable(static_cast<int>(i)) ? mode : M::kNone);
  }
  return modes;
}

void expect_same(const Case& c, const std::shared_ptr<ConvLibrary>& library, int block) {
  SCOPED_TRACE(c.name + (block == 1 ? " plain" : " channels last"));
  KernelRun expected = run_of(c.op, c, 1);
  KernelRun got = run_of(std::make_shared<OnGpu>(c.op, library, c.compile), c, block);
  expected.forward();
  got.forward();
  expect_close(got.output(), expected.output(), "output");
  const auto dy = values("dy", static_cast<std::int64_t>(got.output().size()));
  std::vector<Floats> initial;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    initial.push_back(values("initial" + std::to_string(i), c.inputs[i].shape.count()));
  }
  for (M mode : {M::kOverwrite, M::kAccumulate}) {
    expected.backward(dy, modes_of(c, mode), initial);
    got.backward(dy, modes_of(c, mode), initial);
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      if (!c.op->differentiable(static_cast<int>(i))) continue;
      const int input = static_cast<int>(i);
      expect_close(got.gradient(input), expected.gradient(input),
                   "gradient " + std::to_string(i) + (mode == M::kAccumulate ? ", added" : ""));
    }
  }
}

void expect_same(const Case& c) {
  for (bool epilogues : {true, false}) {
    for (int block : {1, kAllChannels}) expect_same(c, reference_library(epilogues), block);
  }
}

KernelInput activation(const std::string& name, const Shape& shape) {
  return {shape, values(name, shape.count())};
}
KernelInput parameter(const std::string& name, const Shape& shape, float low = -1.0f) {
  return {shape, values(name, shape.count(), low, 1.0f), {}, true};
}

Case conv_case(const Shape& x, const Shape& w, const ConvAttributes& attributes,
               const Conv2dOp::Fused& fused) {
  const auto op = std::make_shared<Conv2dOp>(attributes, fused);
  std::vector<KernelInput> inputs;
  for (const ConvOperand& o : conv_operands(*op, x, w)) {
    inputs.push_back(o.parameter ? parameter(o.name, o.shape, o.low) : activation(o.name, o.shape));
  }
  return {op->attributes() + " " + to_string(w), op,
          [op](const KernelContext& context) { return compile_conv2d_gpu(*op, context); }, inputs};
}

TEST(GpuKernels, ConvolutionsOfEveryShape) {
  for (const Conv2dOp::Fused& fused : {Conv2dOp::Fused{}, Conv2dOp::Fused{.bias = true}}) {
    expect_same(conv_case({2, 3, 9, 11}, {8, 3, 7, 7}, {2, 3, 1, 1}, fused));
    expect_same(conv_case({2, 8, 5, 6}, {12, 8, 1, 1}, {1, 0, 1, 1}, fused));
    expect_same(conv_case({1, 6, 9, 7}, {5, 6, 3, 3}, {2, 1, 1, 1}, fused));
    expect_same(conv_case({1, 4, 10, 10}, {4, 4, 3, 3}, {1, 2, 2, 1}, fused));
    expect_same(conv_case({2, 8, 6, 6}, {12, 4, 3, 3}, {1, 1, 1, 2}, fused));
    expect_same(conv_case({1, 6, 5, 5}, {6, 1, 3, 3}, {1, 1, 1, 6}, fused));  // depthwise
    expect_same(conv_case({1, 4, 5, 5}, {1, 4, 3, 3}, {1, 1, 1, 1}, fused));  // one output
    expect_same(conv_case({1, 1, 5, 5}, {4, 1, 3, 3}, {1, 1, 1, 1}, fused));  // one input
  }
}

TEST(GpuKernels, ConvolutionsWithAllTheyAbsorb) {
  const float eps = 1e-5f;
  for (const Conv2dOp::Fused& fused :
       {Conv2dOp::Fused{.relu = true}, Conv2dOp::Fused{.residual = true},
        Conv2dOp::Fused{.bias = true, .relu = true},
        Conv2dOp::Fused{.bias = true, .residual = true},
        Conv2dOp::Fused{.norm = true, .norm_eps = eps},
        Conv2dOp::Fused{.norm = true, .norm_eps = eps, .relu = true},
        Conv2dOp::Fused{.bias = true, .norm = true, .norm_eps = eps, .relu = true},
        Conv2dOp::Fused{.norm = true, .norm_eps = eps, .residual = true, .relu = true}}) {
    expect_same(conv_case({2, 6, 8, 7}, {10, 6, 3, 3}, {1, 1, 1, 1}, fused));
    expect_same(conv_case({2, 6, 8, 7}, {10, 6, 1, 1}, {2, 0, 1, 1}, fused));
  }
}

// Only what is wanted is written: the rest stays null.
TEST(GpuKernels, ConvolutionGivesTheGradientsAskedFor) {
  const Case c = conv_case({2, 6, 5, 4}, {4, 6, 3, 3}, {1, 1, 1, 1}, {.bias = true, .relu = true});
  KernelRun expected = run_of(c.op, c, 1);
  const auto gpu = std::make_shared<OnGpu>(c.op, reference_library(true), c.compile);
  KernelRun got = run_of(gpu, c, kAllChannels);
  expected.forward();
  got.forward();
  const auto dy = values("dy", 2 * 4 * 5 * 4);
  for (int only = 0; only < 3; ++only) {
    std::vector<M> modes(3, M::kNone);
    modes[only] = M::kOverwrite;
    expected.backward(dy, modes);
    got.backward(dy, modes);
    expect_close(got.gradient(only), expected.gradient(only), "gradient " + std::to_string(only));
  }
}

TEST(GpuKernels, Linear) {
  const auto op = std::make_shared<LinearOp>();
  for (const Shape& s : {Shape{1, 1, 1}, Shape{3, 17, 10}, Shape{130, 40, 65}}) {
    const Case c = {
        "linear",
        op,
        compile_linear_gpu,
        {activation("x", {s[0], s[1]}), parameter("w", {s[2], s[1]}), parameter("b", {s[2]})}};
    for (bool epilogues : {true, false}) expect_same(c, reference_library(epilogues), 1);
  }
}

TEST(GpuKernels, TransposedConvolution) {
  struct Sizes {
    Shape x, w;
    ConvTransposeAttributes attributes;
  };
  for (const Sizes& s :
       {Sizes{{2, 3, 4, 5}, {3, 6, 4, 4}, {2, 1, 1}}, Sizes{{1, 4, 3, 3}, {4, 3, 3, 3}, {1, 0, 2}},
        Sizes{{1, 5, 2, 3}, {5, 1, 16, 16}, {8, 4, 5}}}) {
    Graph graph;
    conv_transpose2d(graph, graph.input("x", {Type::kF32, s.x}),
                     graph.input("w", {Type::kF32, s.w}), s.attributes);
    const auto compile = [=](const KernelContext& context) {
      return compile_conv_transpose2d_gpu(s.attributes, context);
    };
    const Case c = {"conv_transpose2d " + to_string(s.w),
                    graph.nodes().back().op,
                    compile,
                    {activation("x", s.x), parameter("w", s.w)}};
    expect_same(c, reference_library(true), 1);
  }
}

TEST(GpuKernels, MaxPool) {
  struct Window {
    Shape x;
    int window, stride, padding;
    bool ceil;
  };
  for (const Window& w : {Window{{2, 20, 9, 11}, 3, 2, 1, false},
                          {{1, 3, 8, 8}, 2, 2, 0, false},
                          {{2, 5, 7, 10}, 3, 1, 1, false},
                          {{1, 4, 6, 9}, 2, 2, 0, true},
                          {{1, 2, 10, 10}, 2, 3, 0, false}}) {
    const auto op = std::make_shared<MaxPoolOp>(w.window, w.stride, w.padding, w.ceil);
    const Case c = {
        op->attributes(),
        op,
        [op](const KernelContext& context) { return compile_max_pool_gpu(*op, context); },
        {activation("x", w.x)}};
    for (int block : {1, kAllChannels}) expect_same(c, reference_library(true), block);
  }
}

TEST(GpuKernels, BatchNorm) {
  // One piece of rows; a rest; more pieces than one row of the tree of sums adds.
  for (const Shape& s : {Shape{1, 3, 2, 2}, Shape{2, 20, 9, 11}, Shape{3, 2, 50, 40}}) {
    const auto op = std::make_shared<BatchNormOp>(1e-5f);
    const Case c = {
        to_string(s),
        op,
        [op](const KernelContext& context) { return compile_batch_norm_gpu(*op, context); },
        {activation("x", s), parameter("gamma", {s[1]}), parameter("beta", {s[1]})}};
    for (int block : {1, kAllChannels}) {
      expect_same(c, reference_library(true), block);
      KernelRun expected = run_of(op, c, 1);
      KernelRun got = run_of(std::make_shared<OnGpu>(op, nullptr, c.compile), c, block);
      expected.forward();
      got.forward();
      for (int i = 1; i < 4; ++i) expect_close(got.output(i), expected.output(i), "statistic");
    }
  }
}

// With what it absorbs, against oneDNN's batch norm with the same; in vectors and one by one.
TEST(GpuKernels, BatchNormWithAllItAbsorbs) {
  for (const BatchNormOp::Fused& fused :
       {BatchNormOp::Fused{.relu = true}, BatchNormOp::Fused{.residual = true},
        BatchNormOp::Fused{.residual = true, .relu = true}}) {
    for (const Shape& s : {Shape{2, 16, 9, 11}, Shape{2, 5, 6, 7}}) {
      const auto op = std::make_shared<BatchNormOp>(1e-5f, fused);
      Case c = {op->attributes() + " " + to_string(s),
                op,
                [op](const KernelContext& context) { return compile_batch_norm_gpu(*op, context); },
                {activation("x", s), parameter("gamma", {s[1]}), parameter("beta", {s[1]})}};
      if (fused.residual) c.inputs.push_back(activation("residual", s));
      for (int block : {1, kAllChannels}) expect_same(c, reference_library(true), block);
    }
  }
}

// Far from zero the variance is a small difference of large sums.
TEST(GpuKernels, BatchNormFarFromZero) {
  const auto op = std::make_shared<BatchNormOp>(1e-5f);
  const Shape s = {2, 1, 40, 40};
  const Case c = {
      "",
      op,
      [op](const KernelContext& context) { return compile_batch_norm_gpu(*op, context); },
      {{s, values("far", s.count(), 9999.0f, 10001.0f)},
       parameter("gamma", {1}),
       parameter("beta", {1})}};
  KernelRun run = run_of(std::make_shared<OnGpu>(op, nullptr, c.compile), c, kAllChannels);
  run.forward();
  double mean = 0, squares = 0;
  for (float x : c.inputs[0].values) mean += x;
  mean /= static_cast<double>(s.count());
  for (float x : c.inputs[0].values) squares += (x - mean) * (x - mean);
  EXPECT_NEAR(run.output(2)[0], squares / static_cast<double>(s.count()), 1e-6);
}

// A value that is not a number reaches y, so that a run that diverged is seen.
TEST(GpuKernels, MaxPoolKeepsNaN) {
  const auto op = std::make_shared<MaxPoolOp>(2, 2, 0, false);
  Case c = {"",
            op,
            [op](const KernelContext& context) { return compile_max_pool_gpu(*op, context); },
            {activation("x", {1, 1, 4, 4})}};
  c.inputs[0].values[5] = std::numeric_limits<float>::quiet_NaN();
  KernelRun run = run_of(std::make_shared<OnGpu>(op, nullptr, c.compile), c, kAllChannels);
  run.forward();
  EXPECT_TRUE(std::isnan(run.output()[0]));
  for (int i = 1; i < 4; ++i) EXPECT_FALSE(std::isnan(run.output()[i])) << i;
}

// An op without a body for GPUs: the same values, in the order of the device, call after call.
TEST(GpuKernels, RunOnTheHost) {
  const auto op = std::make_shared<MaxPoolOp>(3, 2, 1, false);
  Case c = {"", op, {}, {activation("x", {2, 5, 8, 9})}};
  c.compile = [op](const KernelContext& context) {
    return run_on_host(context, [op](const KernelContext& host) {
      EXPECT_EQ(host.device.kind, comm::DeviceKind::kCpu);
      return compile_max_pool_gpu(*op, host);
    });
  };
  KernelRun expected = run_of(op, c, 1);
  KernelRun got = run_of(std::make_shared<OnGpu>(op, nullptr, c.compile), c, kAllChannels);
  expected.forward();
  for (int call = 0; call < 2; ++call) {
    got.forward();
    EXPECT_EQ(got.output(), expected.output());
  }
}

// Equal requests share an engine, others do not.
TEST(GpuKernels, EnginesAreShared) {
  SharedState shared;
  comm::Stream stream(comm::Device{}, 1);
  KernelContext context{{}, stream.view()};
  context.shared = context.engines = &shared;
  shared.get<ConvLibrary>(kConvLibrary, [] { return reference_library(true); });
  ConvRequest request{ConvPass::kForward, {1, 2, 3, 3}, {4, 2, 1, 1}, {1, 4, 3, 3}};
  const auto engine = conv_engine(context, request);
  EXPECT_EQ(conv_engine(context, request), engine);
  for (bool ConvRequest::*flag : {&ConvRequest::direct, &ConvRequest::channels_last,
                                  &ConvRequest::epilogue, &ConvRequest::relu}) {
    ConvRequest other = request;
    other.*flag = !(other.*flag);
    EXPECT_NE(conv_engine(context, other), engine) << to_string(other);
  }
}

}  // namespace
}  // namespace models::testing
