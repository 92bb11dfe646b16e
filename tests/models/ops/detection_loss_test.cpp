#include "models/ops/detection_loss.h"

#include "models/ops/add.h"
#include "models/ops/conv2d.h"
#include "models/ops/detection_loss_rows.h"
#include "models/ops/relu.h"
#include "tests/models/golden_json.h"
#include "tests/models/ops/conv_engine_fixture.h"
#include "tests/models/ops/kernel_fixture.h"

namespace models::testing {
namespace {

constexpr int kClasses = 3;
const std::vector<int> kSizes = {32, 64};
const std::vector<double> kRatios = {0.5, 1.0, 2.0};

struct Level {
  Shape logits, deltas;
};

// Two levels of nine anchors a cell: 27 and 36 channels fill no block.
struct Scene {
  std::int64_t images = 2, capacity = 4;
  std::vector<Level> levels = {{{2, 9 * kClasses, 4, 6}, {2, 36, 4, 6}},
                               {{2, 9 * kClasses, 2, 3}, {2, 36, 2, 3}}};
  std::shared_ptr<const AnchorGrid> grid =
      make_anchors(32, 48, std::vector<Shape>{levels[0].logits, levels[1].logits}, kSizes, kRatios);
  std::vector<float> boxes = {4, 4, 40, 30, 10.5, 2, 45, 31, 20, 20, 27, 28, 0, 0, 0, 0,
                              0, 0, 0,  0,  0,    0, 0,  0,  0,  0,  0,  0,  0, 0, 0, 0};
  std::vector<std::int32_t> labels = {1, 2, 0, 0, 0, 0, 0, 0}, count = {3, 0};
};

class DetectionLoss : public ::testing::TestWithParam<DeviceCase> {
 protected:
  Matches matches(Graph& graph) const {
    const Shape per_box = {s_.images, s_.capacity};
    boxes_ = graph.input("boxes", {Type::kF32, {s_.images, s_.capacity, 4}});
    return match_anchors(graph, s_.grid, boxes_, graph.input("labels", {Type::kI32, per_box}),
                         graph.input("count", {Type::kI32, {s_.images}}), 0.4f, 0.5f);
  }
  void fill(Program& program) const {
    program.set_input("boxes", s_.boxes);
    program.set_input("labels", s_.labels);
    program.set_input("count", s_.count);
  }
  // The loss of both levels, each a sum of two uses of its variable.
  Graph graph_of(bool focal) const {
    Graph graph;
    const Matches m = matches(graph);
    std::vector<Value> heads;
    for (std::size_t l = 0; l < s_.levels.size(); ++l) {
      const Shape& shape = focal ? s_.levels[l].logits : s_.levels[l].deltas;
      const Value v = variable(graph, "level" + std::to_string(l), shape);
      heads.push_back(add(graph, v, v));
    }
    graph.loss("probe",
               focal ? focal_loss(graph, s_.grid, heads, m, kClasses)
                     : box_loss(graph, s_.grid, heads, boxes_, m),
               1.0f);
    return graph;
  }
  std::map<std::string, std::vector<float>> start(bool focal) const {
    std::map<std::string, std::vector<float>> at;
    for (std::size_t l = 0; l < s_.levels.size(); ++l) {
      const Shape& shape = focal ? s_.levels[l].logits : s_.levels[l].deltas;
      const std::string name = "level" + std::to_string(l);
      at[name] = values(name, shape.count(), -1.5f, 1.5f);
    }
    return at;
  }

  Scene s_;
  mutable Value boxes_;
};

TEST_P(DetectionLoss, FocalGradientsAreNumeric) {
  Program program(graph_of(true), true, GetParam());
  fill(program);
  expect_numeric_gradients(program, start(true), {"level0", "level1"}, 2e-2, 2e-2);
}

TEST_P(DetectionLoss, BoxGradientsAreNumeric) {
  Program program(graph_of(false), true, GetParam());
  fill(program);
  const auto at = start(false);
  expect_numeric_gradients(program, at, {"level0", "level1"}, 2e-2, 2e-3);
  int trained = 0;  // only positive anchors have a gradient
  for (const auto& [name, v] : at) {
    for (float g : program.gradient(name)) trained += g != 0.0f;
  }
  EXPECT_GT(trained, 20);
  EXPECT_EQ(trained % 4, 0);
}

// -alpha_t (1 - p_t)^2 log p_t, image by image.
double plain_focal(const Scene& s, const std::vector<std::int32_t>& target,
                   const std::vector<float>& scale,
                   const std::map<std::string, std::vector<float>>& logits) {
  double sum = 0;
  for (std::size_t l = 0; l < s.levels.size(); ++l) {
    const Shape& shape = s.levels[l].logits;
    const auto& x = logits.at("level" + std::to_string(l));
    const std::int64_t cells = shape[2] * shape[3];
    for (std::int64_t i = 0; i < shape.count(); ++i) {
      const std::int64_t cell = i % cells, channel = i / cells % shape[1], n = i / cells / shape[1];
      const std::int64_t anchor = s.grid->levels[l].first + cell * 9 + channel / kClasses;
      const std::int32_t t = target[n * s.grid->total() + anchor];
      if (t == kIgnored) continue;
      const double p = 1 / (1 + std::exp(-2.0 * x[i]));  // graph_of doubles its variables
      const bool positive = t == channel % kClasses;
      const double pt = positive ? p : 1 - p;
      sum -= (positive ? 0.25 : 0.75) * (1 - pt) * (1 - pt) * std::log(pt) * scale[n];
    }
  }
  return sum;
}

double plain_box(const Scene& s, const std::vector<std::int32_t>& match,
                 const std::vector<float>& scale,
                 const std::map<std::string, std::vector<float>>& deltas) {
  double sum = 0;
  for (std::size_t l = 0; l < s.levels.size(); ++l) {
    const Shape& shape = s.levels[l].deltas;
    const auto& x = deltas.at("level" + std::to_string(l));
    const std::int64_t cells = shape[2] * shape[3];
    for (std::int64_t i = 0; i < shape.count(); ++i) {
      const std::int64_t cell = i % cells, channel = i / cells % shape[1], n = i / cells / shape[1];
      const std::int64_t anchor = s.grid->levels[l].first + cell * 9 + channel / 4;
      const std::int32_t g = match[n * s.grid->total() + anchor];
      if (g < 0) continue;
      const float* a = s.grid->boxes.data() + anchor * 4;
      const float* b = s.boxes.data() + (n * s.capacity + g) * 4;
      const double target = encode_box({a[0], a[1], a[2], a[3]}, {b[0], b[1], b[2], b[3]},
                                       static_cast<int>(channel % 4));
      sum += std::fabs(2.0 * x[i] - target) * scale[n];
    }
  }
  return sum;
}

TEST_P(DetectionLoss, EqualsPlainLoops) {
  for (bool focal : {true, false}) {
    Graph graph = graph_of(focal);
    const auto outputs = graph.nodes()[0].outputs;  // of match_anchors
    const char* names[] = {"target", "match", "scale"};
    for (int i = 0; i < 3; ++i) graph.output(names[i], outputs[i]);
    Program program(graph, true, GetParam());
    fill(program);
    const auto at = start(focal);
    for (const auto& [name, v] : at) program.set_parameter(name, v);
    program.run();
    const auto target = program.output<std::int32_t>("target");
    const auto match = program.output<std::int32_t>("match");
    const auto scale = program.output("scale");
    const double expected =
        focal ? plain_focal(s_, target, scale, at) : plain_box(s_, match, scale, at);
    EXPECT_NEAR(program.output("probe")[0], expected, 2e-6 * expected) << focal;
    EXPECT_GT(std::count(target.begin(), target.end(), kIgnored), 0);
  }
}

// torchvision's (N, HWA, K) as one level of (N, A K, H, W).
std::vector<float> as_level(const std::vector<float>& rows, const AnchorGrid& grid,
                            std::size_t level, const Shape& shape) {
  const std::int64_t k = shape[1] / 9, cells = shape[2] * shape[3];
  std::vector<float> result(static_cast<std::size_t>(shape.count()));
  for (std::int64_t i = 0; i < shape.count(); ++i) {
    const std::int64_t cell = i % cells, channel = i / cells % shape[1], n = i / cells / shape[1];
    const std::int64_t anchor = grid.levels[level].first + cell * 9 + channel / k;
    result[i] = rows[(n * grid.total() + anchor) * k + channel % k];
  }
  return result;
}
void back_from_level(const std::vector<float>& values, const AnchorGrid& grid, std::size_t level,
                     const Shape& shape, std::vector<float>& rows) {
  const std::int64_t k = shape[1] / 9, cells = shape[2] * shape[3];
  for (std::int64_t i = 0; i < shape.count(); ++i) {
    const std::int64_t cell = i % cells, channel = i / cells % shape[1], n = i / cells / shape[1];
    const std::int64_t anchor = grid.levels[level].first + cell * 9 + channel / k;
    rows[(n * grid.total() + anchor) * k + channel % k] = values[i];
  }
}

// Image 0 has the boxes of a golden's target, image 1 none.
void fill_truth(Program& program, const rapidjson::Value& truth) {
  std::vector<float> box_values(24, 0.0f);
  std::vector<std::int32_t> labels(6, 0);
  for (rapidjson::SizeType i = 0; i < 3; ++i) {
    for (rapidjson::SizeType j = 0; j < 4; ++j) {
      box_values[i * 4 + j] = truth["boxes"][i][j].GetFloat();
    }
    labels[i] = truth["labels"][i].GetInt();
  }
  program.set_input("boxes", box_values);
  program.set_input("labels", labels);
  program.set_input("count", std::vector<std::int32_t>{3, 0});
}

TEST_P(DetectionLoss, IsTorchvisions) {
  const auto document = read_golden("detection.json");
  const auto& golden = document["losses"];
  const std::vector<Shape> maps = {
      {2, 1, 8, 12}, {2, 1, 4, 6}, {2, 1, 2, 3}, {2, 1, 1, 2}, {2, 1, 1, 1}};
  const auto grid = make_anchors(64, 96, maps, std::vector<int>{32, 64, 128, 256, 512}, kRatios);
  const std::map<std::string, std::int64_t> heads = {{"cls_logits", kClasses},
                                                     {"bbox_regression", 4}};
  Graph graph;
  const Value boxes = graph.input("boxes", {Type::kF32, {2, 3, 4}});
  const Matches m = match_anchors(graph, grid, boxes, graph.input("labels", {Type::kI32, {2, 3}}),
                                  graph.input("count", {Type::kI32, {2}}), 0.4f, 0.5f);
  std::map<std::string, std::vector<Value>> levels;
  for (const auto& [head, k] : heads) {
    for (std::size_t l = 0; l < maps.size(); ++l) {
      levels[head].push_back(
          variable(graph, head + std::to_string(l), {2, 9 * k, maps[l][2], maps[l][3]}));
    }
  }
  graph.loss("classification", focal_loss(graph, grid, levels["cls_logits"], m, kClasses), 1.0f);
  graph.loss("bbox_regression", box_loss(graph, grid, levels["bbox_regression"], boxes, m), 1.0f);
  Program program(graph, true, GetParam());
  fill_truth(program, golden["targets"][0]);
  const std::uint64_t seed = document["seed"].GetUint64();
  for (const auto& [head, k] : heads) {
    const auto formula = numbers(golden["inputs"][head.c_str()]["formula"]);
    const auto rows = goldens::values(
        seed, golden["inputs"][head.c_str()]["stream"].GetString(), 2 * grid->total() * k,
        {static_cast<float>(formula[0]), static_cast<float>(formula[1])});
    for (std::size_t l = 0; l < maps.size(); ++l) {
      program.set_parameter(head + std::to_string(l),
                            as_level(rows, *grid, l, graph.shape(levels[head][l])));
    }
  }
  program.run();
  for (const char* name : {"classification", "bbox_regression"}) {
    const double expected = golden["losses"][name].GetDouble();
    EXPECT_NEAR(program.output(name)[0], expected, 1e-6 * expected) << name;
  }
  for (const auto& [head, k] : heads) {
    std::vector<float> rows(static_cast<std::size_t>(2 * grid->total() * k));
    for (std::size_t l = 0; l < maps.size(); ++l) {
      back_from_level(program.gradient(head + std::to_string(l)), *grid, l,
                      graph.shape(levels[head][l]), rows);
    }
    const auto expected = golden_statistics(golden["gradients"][head.c_str()]["gradient"]);
    const auto got = goldens::statistics<float>(head, rows);
    EXPECT_LT(goldens::distance(got, expected), 1e-6) << head;
    for (std::size_t i = 0; i < expected.first.size(); ++i) {
      EXPECT_NEAR(got.first[i], expected.first[i], 1e-6 * expected.norm) << head << i;
    }
  }
}

// Heads in the order that convolutions produce: nothing of the padding enters loss or gradient.
TEST_P(DetectionLoss, BlockedHeadsChangeNothing) {
  for (bool focal : {true, false}) {
    Graph graph;
    const Matches m = matches(graph);
    std::vector<Value> heads;
    std::vector<KernelInput> inputs;
    for (std::size_t l = 0; l < s_.levels.size(); ++l) {
      const Shape& shape = focal ? s_.levels[l].logits : s_.levels[l].deltas;
      heads.push_back(graph.input("level" + std::to_string(l), {Type::kF32, shape}));
      inputs.push_back({shape, values("level" + std::to_string(l), shape.count(), -3.0f, 3.0f)});
    }
    const Shape per_anchor = {s_.images, s_.grid->total()};
    std::vector<std::int32_t> match(static_cast<std::size_t>(per_anchor.count()), kBackground);
    for (std::size_t i = 0; i < match.size(); i += 7) match[i] = static_cast<std::int32_t>(i % 3);
    for (std::size_t i = 3; i < match.size(); i += 11) match[i] = kIgnored;
    inputs.push_back({per_anchor, {}, match});
    inputs.push_back({{s_.images}, {0.25f, 0.125f}});
    if (focal) {
      focal_loss(graph, s_.grid, heads, m, kClasses);
    } else {
      inputs.push_back({{s_.images, s_.capacity, 4}, s_.boxes});
      for (std::size_t i = 0; i < inputs.back().values.size(); i += 4) {  // no empty boxes
        inputs.back().values[i + 2] += 1;
        inputs.back().values[i + 3] += 1;
      }
      box_loss(graph, s_.grid, heads, boxes_, m);
    }
    std::vector<GradientMode> modes(inputs.size(), GradientMode::kNone);
    modes[0] = modes[1] = GradientMode::kOverwrite;
    std::vector<float> loss;
    std::vector<std::vector<float>> gradients;
    for (int block : channel_blocks(GetParam())) {
      KernelRun run(GetParam(), graph, inputs, block);
      run.forward();
      run.backward({2.0f}, modes);
      EXPECT_TRUE(run.padding_is_zero()) << block;
      loss.push_back(run.output()[0]);
      for (int l : {0, 1}) gradients.push_back(run.gradient(l));
      EXPECT_NEAR(loss.back(), loss[0], 1e-6 * loss[0]) << block;
      for (int l : {0, 1}) EXPECT_EQ(gradients[gradients.size() - 2 + l], gradients[l]) << block;
    }
  }
}

TEST_P(DetectionLoss, WithoutBoxesOnlyBackgroundIsTrained) {
  s_.count = {0, 0};
  Program focal(graph_of(true), true, GetParam()), box(graph_of(false), true, GetParam());
  fill(focal);
  fill(box);
  for (const auto& [name, v] : start(true)) focal.set_parameter(name, v);
  for (const auto& [name, v] : start(false)) box.set_parameter(name, v);
  focal.run();
  box.run();
  EXPECT_GT(focal.output("probe")[0], 0.0f);
  EXPECT_EQ(box.output("probe")[0], 0.0f);
  for (float g : focal.gradient("level0")) ASSERT_GT(g, 0.0f);
  for (float g : box.gradient("level0")) ASSERT_EQ(g, 0.0f);
}

// Inputs of a loss over the scene: levels of 9 x `row` channels, targets below `num_targets`.
std::vector<KernelInput> row_inputs(const Scene& s, std::int64_t row, int num_targets) {
  std::vector<KernelInput> inputs;
  for (const Level& level : s.levels) {
    Shape shape = level.logits;
    shape[1] = 9 * row;
    inputs.push_back(
        {shape, values("level" + std::to_string(inputs.size()), shape.count(), -3.0f, 3.0f)});
  }
  const Shape per_anchor = {s.images, s.grid->total()};
  std::vector<std::int32_t> match(static_cast<std::size_t>(per_anchor.count()), kBackground);
  for (std::size_t i = 0; i < match.size(); i += 3) {
    match[i] = static_cast<std::int32_t>(i) % num_targets;
  }
  for (std::size_t i = 1; i < match.size(); i += 7) match[i] = kIgnored;
  inputs.push_back({per_anchor, {}, match});
  inputs.push_back({{s.images}, {0.25f, 0.125f}});
  return inputs;
}

// `compile` over levels with all channels last against the op on a CPU.
void expect_rows_are_same(const Graph& graph, const std::vector<KernelInput>& inputs,
                          const OnGpu::Compile& compile) {
  Graph rows = graph;
  const Node& node = graph.nodes().back();
  rows.add(std::make_shared<OnGpu>(node.op, nullptr, compile), node.inputs);
  KernelRun expected(DeviceCase{}, graph, inputs, 1);
  KernelRun got(DeviceCase{}, rows, inputs, kAllChannels);
  expected.forward();
  got.forward();
  EXPECT_NEAR(got.output()[0], expected.output()[0], 1e-6 * expected.output()[0]);
  using M = GradientMode;
  std::vector<std::vector<float>> initial;
  for (int l : {0, 1}) {
    initial.push_back(values("initial" + std::to_string(l), inputs[l].shape.count()));
  }
  for (const auto& [first, second] :
       {std::pair(M::kOverwrite, M::kAccumulate), std::pair(M::kNone, M::kOverwrite),
        std::pair(M::kAccumulate, M::kNone)}) {
    std::vector<M> modes(inputs.size(), M::kNone);
    modes[0] = first;
    modes[1] = second;
    expected.backward({2.0f}, modes, initial);
    got.backward({2.0f}, modes, initial);
    for (int l : {0, 1}) {
      if (modes[l] == M::kNone) continue;
      EXPECT_EQ(got.gradient(l), expected.gradient(l)) << l;
    }
  }
}

// Fewer classes than a thread takes at once, as many, more; items that reach into the next anchor,
// the next image, and beyond the last.
TEST(DetectionLossRows, FocalLossOfAnyNumberOfClasses) {
  const Scene s;
  for (int num_classes : {1, 3, 8, 9, 11, 20}) {
    SCOPED_TRACE(num_classes);
    const auto inputs = row_inputs(s, num_classes, num_classes);
    Graph graph;
    const Value first = graph.input("first", {Type::kF32, inputs[0].shape});
    const Value second = graph.input("second", {Type::kF32, inputs[1].shape});
    const Value target = graph.input("target", {Type::kI32, inputs[2].shape});
    focal_loss(graph, s.grid, {first, second},
               {target, target, graph.input("scale", {Type::kF32, inputs[3].shape})}, num_classes);
    expect_rows_are_same(graph, inputs, [&](const KernelContext& context) {
      EXPECT_TRUE(levels_lie_in_rows(*s.grid, context, num_classes));
      EXPECT_FALSE(levels_lie_in_rows(*s.grid, context, num_classes + 1));
      return compile_focal_loss_rows(*s.grid, num_classes, context);
    });
  }
}

TEST(DetectionLossRows, BoxLoss) {
  const Scene s;
  auto inputs = row_inputs(s, 4, 3);
  const Shape boxes = {s.images, s.capacity, 4};
  inputs.push_back({boxes, s.boxes});
  for (std::size_t i = 0; i < inputs.back().values.size(); i += 4) {  // no empty boxes
    inputs.back().values[i + 2] += 1;
    inputs.back().values[i + 3] += 1;
  }
  Graph graph;
  const Value first = graph.input("first", {Type::kF32, inputs[0].shape});
  const Value second = graph.input("second", {Type::kF32, inputs[1].shape});
  const Value match = graph.input("match", {Type::kI32, inputs[2].shape});
  const Value scale = graph.input("scale", {Type::kF32, inputs[3].shape});
  box_loss(graph, s.grid, {first, second}, graph.input("boxes", {Type::kF32, boxes}),
           {match, match, scale});
  expect_rows_are_same(graph, inputs, [&](const KernelContext& context) {
    return compile_box_loss_rows(*s.grid, context);
  });
}

INSTANTIATE_TEST_SUITE_P(Devices, DetectionLoss, ::testing::ValuesIn(devices()), device_name);

}  // namespace
}  // namespace models::testing
