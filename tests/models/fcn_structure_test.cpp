// Names, shapes and counts of FCN's parameters: torchvision's against its state_dict
// (tests/peers/state_dict_goldens.py), the paper's against the released networks; and one training
// step of every head.
#include <set>

#include "tests/models/golden_fixture.h"

namespace models::testing {
namespace {

ModelOptions fcn_options(const std::string& backbone, const std::string& head, int classes) {
  ModelOptions options;
  options.name = "fcn";
  options.backbone = backbone;
  options.head = head;
  options.num_classes = classes;
  return options;
}

constexpr BatchShape square(std::int64_t size, std::int64_t images = 1) {
  return {.images = images, .height = size, .width = size};
}

Graph graph_of(const ModelOptions& options, const BatchShape& shape, bool training = true) {
  Graph graph;
  const auto model = make_model(options);
  if (training) {
    model->training(graph, shape);
  } else {
    model->inference(graph, shape);
  }
  return graph;
}

// Names outside the backbone with their shapes.
std::map<std::string, std::string> head_state(const Graph& graph) {
  auto state = state_dict(graph);
  std::erase_if(state, [](const auto& entry) { return entry.first.starts_with("backbone."); });
  return state;
}

class DilatedFcn : public ::testing::TestWithParam<std::pair<const char*, std::int64_t>> {};

TEST_P(DilatedFcn, StateDictAndCountAreTorchvisions) {
  const auto [name, count] = GetParam();
  const auto golden = read_golden("state_dict_fcn_" + std::string(name) + ".json");
  std::map<std::string, std::string> expected;
  for (const auto& [tensor, shape] : golden["tensors"].GetObject()) {
    expected[tensor.GetString()] = to_string(shape_of(shape));
  }
  ModelOptions options = fcn_options(golden["backbone"].GetString(), "dilated", 21);
  options.aux = true;
  for (bool training : {true, false}) {
    const Graph graph = graph_of(options, square(64), training);
    EXPECT_EQ(state_dict(graph), expected);
    EXPECT_EQ(num_parameters(graph), count);
    EXPECT_EQ(graph.losses().size(), training ? 2u : 0u);
  }
  options.aux = false;
  std::erase_if(expected, [](const auto& e) { return e.first.starts_with("aux_classifier"); });
  EXPECT_EQ(state_dict(graph_of(options, square(64))), expected);
}

INSTANTIATE_TEST_SUITE_P(Backbones, DilatedFcn,
                         ::testing::Values(std::pair{"r50", 35'322'218},
                                           std::pair{"r101", 54'314'346},
                                           std::pair{"x50", 34'794'090}));

TEST(Fcn, LossesAreWeightedAndInputsDeclaredWhereUsed) {
  ModelOptions options = fcn_options("resnet50", "dilated", 5);
  options.aux = true;
  const auto inputs = [&] {
    std::set<std::string> names;
    const Graph graph = graph_of(options, square(64, 2));
    for (const auto& v : graph.values()) {
      if (v.role == Graph::Role::kInput) names.insert(v.name);
    }
    return names;
  };
  const Graph graph = graph_of(options, square(64, 2));
  ASSERT_EQ(graph.losses().size(), 2u);
  EXPECT_EQ(graph.losses()[0].name, "out");
  EXPECT_EQ(graph.losses()[0].weight, 1.0f);
  EXPECT_EQ(graph.losses()[1].name, "aux");
  EXPECT_EQ(graph.losses()[1].weight, 0.5f);
  EXPECT_EQ(inputs(), (std::set<std::string>{"image", "label_map"}));
  options.dropout = 0.1f;
  EXPECT_EQ(inputs(), (std::set<std::string>{"image", "label_map", "sample_id", "epoch"}));
  const Graph inference = graph_of(options, square(64), false);
  for (const Node& node : inference.nodes()) {
    EXPECT_NE(node.op->name(), "dropout");
  }
}

TEST(Fcn, DilationKeepsStrideEight) {
  const Graph graph = graph_of(fcn_options("resnet50", "dilated", 5), square(128), false);
  for (const Node& node : graph.nodes()) {
    if (node.scope == "backbone.layer4.2.conv2") {
      EXPECT_EQ(graph.shape(node.outputs[0]), (Shape{1, 512, 16, 16}));
      EXPECT_NE(node.op->attributes().find("dilation 4"), std::string::npos);
    }
    if (node.scope == "backbone.layer4.0.conv2") {  // keeps the dilation of the stage before
      EXPECT_NE(node.op->attributes().find("dilation 2"), std::string::npos);
    }
  }
}

TEST(FcnHeads, PaperNamesAndShapes) {
  ModelOptions options = fcn_options("vgg16", "8s", 21);
  options.learned_deconvolution = true;
  const std::map<std::string, std::string> fc = {
      {"fc6.weight", "4096x512x7x7"},     {"fc6.bias", "4096"},
      {"fc7.weight", "4096x4096x1x1"},    {"fc7.bias", "4096"},
      {"score_fr.weight", "21x4096x1x1"}, {"score_fr.bias", "21"}};
  auto expected = fc;
  expected.merge(std::map<std::string, std::string>{{"score_pool4.weight", "21x512x1x1"},
                                                    {"score_pool4.bias", "21"},
                                                    {"score_pool3.weight", "21x256x1x1"},
                                                    {"score_pool3.bias", "21"},
                                                    {"upscore2.weight", "21x21x4x4"},
                                                    {"upscore_pool4.weight", "21x21x4x4"},
                                                    {"upscore8.weight", "21x21x16x16"}});
  const Graph graph = graph_of(options, square(64));
  EXPECT_EQ(head_state(graph), expected);
  // VGG-16's convolutions, 14,714,688, under torchvision's names
  std::int64_t backbone = 0;
  for (const Parameter& p : graph.parameters()) {
    if (p.name.starts_with("backbone.features.")) backbone += p.shape.count();
  }
  EXPECT_EQ(backbone, 14'714'688);
  EXPECT_TRUE(state_dict(graph).contains("backbone.features.28.bias"));

  options.head = "32s";
  expected = fc;
  expected["upscore.weight"] = "21x21x64x64";
  EXPECT_EQ(head_state(graph_of(options, square(64))), expected);
  options.learned_deconvolution = false;
  EXPECT_EQ(head_state(graph_of(options, square(64))), fc);
}

TEST(FcnHeads, InitialScores) {
  for (const char* backbone : {"vgg16", "resnet18"}) {
    ModelOptions options = fcn_options(backbone, "16s", 4);
    options.learned_deconvolution = true;
    const Graph graph = graph_of(options, square(64));
    for (const Parameter& p : graph.parameters()) {
      if (p.name.starts_with("score_") && p.name.ends_with("weight")) {
        const bool zero = p.initializer.rule == Initializer::Rule::kConstant;
        EXPECT_EQ(zero, options.backbone == "vgg16") << p.name;
      }
      if (p.name.starts_with("upscore")) {
        EXPECT_EQ(p.initializer.rule, Initializer::Rule::kBilinear);
      }
    }
  }
}

// Logits have the size of the image whatever that is; graphs are only built.
TEST(FcnHeads, AnySizeFits) {
  for (const char* backbone : {"vgg16", "resnet18", "resnet50"}) {
    for (const char* head : {"32s", "16s", "8s"}) {
      for (std::int64_t size = 33; size < 130; size += 7) {
        const BatchShape shape{.images = 1, .height = size, .width = size + 20};
        const Graph graph = graph_of(fcn_options(backbone, head, 3), shape, false);
        ASSERT_EQ(graph.shape(graph.outputs()[0].value), (Shape{1, 3, size, size + 20}))
            << backbone << head;
      }
      const Graph large = graph_of(fcn_options(backbone, head, 3), square(500), false);
      EXPECT_EQ(large.shape(large.outputs()[0].value), (Shape{1, 3, 500, 500}));
    }
  }
}

TEST(FcnHeads, MultiplesOf32NeedNoCrops) {
  const Graph graph = graph_of(fcn_options("resnet18", "8s", 3), square(96));
  for (const Node& node : graph.nodes()) EXPECT_NE(node.op->name(), "crop");
}

// A few steps of plain gradient descent on one batch.
float loss_after(Program& program, int steps, float rate) {
  for (int step = 0; step < steps; ++step) {
    program.run();
    for (const ParameterSlot& slot : program.storage().layout->slots) {
      const auto kind = slot.parameter.kind;
      if (slot.bucket < 0 || kind == ParameterKind::kStatistic) continue;
      auto w = program.parameter(slot.parameter.name);
      const auto g = program.gradient(slot.parameter.name);
      for (std::size_t i = 0; i < w.size(); ++i) w[i] -= rate * g[i];
      program.set_parameter(slot.parameter.name, w);
    }
  }
  program.run();
  return program.output("out")[0];
}

struct HeadCase {
  const char* head;
  bool learned, sum;
};
class ResNetHeads : public ::testing::TestWithParam<HeadCase> {};

TEST_P(ResNetHeads, LearnOneBatch) {
  const auto [head, learned, sum] = GetParam();
  ModelOptions options = fcn_options("resnet18", head, 3);
  options.learned_deconvolution = learned;
  options.loss_sum = sum;
  options.dropout = 0.1f;
  const BatchShape shape{.images = 2, .height = 64, .width = 72};
  const Graph graph = graph_of(options, shape);
  Program program(graph, true, DeviceCase{});
  fill_parameters(program, 3);
  for (const Parameter& p : graph.parameters()) {
    if (!p.name.starts_with("upscore")) continue;
    std::vector<float> weight(static_cast<std::size_t>(p.shape.count()));
    const std::int64_t taps = p.shape[2] * p.shape[3];
    for (std::int64_t c = 0; c < 3; ++c) {
      for (std::int64_t i = 0; i < taps; ++i) weight[(c * 3 + c) * taps + i] = 0.25f;
    }
    program.set_parameter(p.name, weight);
  }
  program.set_input("image", values("image", 2 * 3 * 64 * 72));
  std::vector<std::int32_t> labels(2 * 64 * 72, 255);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const std::size_t column = i % 72;
    if (column < 60) labels[i] = static_cast<std::int32_t>(column / 20);
  }
  program.set_input("label_map", labels);
  program.set_input("sample_id", std::vector<std::int64_t>{1, 2});
  program.set_input("epoch", std::vector<std::int32_t>{0, 0});
  program.run();
  const float before = program.output("out")[0];
  for (const ParameterSlot& slot : program.storage().layout->slots) {
    if (slot.bucket < 0) continue;
    double norm = 0;
    for (float g : program.gradient(slot.parameter.name)) norm += double{g} * g;
    EXPECT_TRUE(std::isfinite(norm) && norm > 0) << slot.parameter.name;
  }
  const float rate = sum ? 0.01f / (64 * 60) : 0.01f;
  EXPECT_LT(loss_after(program, 3, rate), 0.9f * before);
}

INSTANTIATE_TEST_SUITE_P(Heads, ResNetHeads,
                         ::testing::Values(HeadCase{"32s", false, false},
                                           HeadCase{"16s", false, true},
                                           HeadCase{"8s", false, false},
                                           HeadCase{"8s", true, false}));

// The paper's network as it starts: zero scores make all classes alike, so the loss is ln(classes)
// a pixel, and nothing but the score layers has a gradient.
TEST(FcnHeads, TheVggNetworkStartsAtEqualScores) {
  constexpr int kClasses = 5;
  ModelOptions options = fcn_options("vgg16", "8s", kClasses);
  options.dropout = 0.5f;
  options.loss_sum = true;
  const std::int64_t height = 40, width = 56;
  const Graph graph = graph_of(options, {.images = 1, .height = height, .width = width});
  Program program(graph, true, DeviceCase{});
  for (const ParameterSlot& slot : program.storage().layout->slots) {
    const std::string& name = slot.parameter.name;
    const bool score = name.starts_with("score_");
    const float size =
        score ? 0.0f : 1.5f / std::sqrt(static_cast<float>(slot.size / slot.parameter.shape[0]));
    float* to = program.storage().parameter(name).f32();
    std::uint32_t random = 1;
    for (std::int64_t i = 0; i < slot.size; ++i) {
      random = random * 1664525u + 1013904223u;
      to[i] = size * (static_cast<float>(random >> 8) / (1 << 23) - 1.0f);
    }
  }
  program.set_input("image", values("image", 3 * height * width));
  std::vector<std::int32_t> labels(static_cast<std::size_t>(height * width), 255);
  for (std::size_t i = 0; i < 1000; ++i) labels[i] = static_cast<std::int32_t>(i % kClasses);
  program.set_input("label_map", labels);
  program.set_input("sample_id", std::vector<std::int64_t>{1});
  program.set_input("epoch", std::vector<std::int32_t>{0});
  program.run();
  EXPECT_NEAR(program.output("out")[0], 1000 * std::log(kClasses), 1e-2);
  for (const char* name : {"score_fr.weight", "score_pool4.weight", "score_pool3.weight"}) {
    double norm = 0;
    for (float g : program.gradient(name)) norm += double{g} * g;
    EXPECT_TRUE(std::isfinite(norm) && norm > 0) << name;
  }
  for (const char* name : {"fc7.weight", "fc6.bias", "backbone.features.0.weight"}) {
    for (float g : program.gradient(name)) ASSERT_EQ(g, 0) << name;
  }
}

TEST(Fcn, UnknownHeadsAreConfigErrors) {
  EXPECT_THROW(make_model(fcn_options("resnet18", "dilated", 3)), comm::Error);
  EXPECT_THROW(make_model(fcn_options("vgg16", "dilated", 3)), comm::Error);
  EXPECT_THROW(graph_of(fcn_options("resnet18", "4s", 3), square(64)), comm::Error);
  EXPECT_THROW(graph_of(fcn_options("vgg19", "8s", 3), square(64)), comm::Error);
}

}  // namespace
}  // namespace models::testing
