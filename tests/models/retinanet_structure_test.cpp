// Names, shapes and counts of RetinaNet's parameters against torchvision's state_dict
// (tests/peers/state_dict_goldens.py), what `trainable_stages` freezes, and the other norms.
#include <set>

#include "models/resnet.h"
#include "tests/models/golden_fixture.h"

namespace models::testing {
namespace {

constexpr BatchShape kSmall{.images = 1, .height = 64, .width = 64, .max_boxes = 2};

Graph training_graph(const ModelOptions& options) {
  Graph graph;
  make_model(options)->training(graph, kSmall);
  return graph;
}

// What torchvision's parameters() yields: no buffers.
bool counts(const Parameter& p) {
  return p.kind != ParameterKind::kFixed && p.kind != ParameterKind::kStatistic;
}

std::int64_t num_parameters(const Graph& graph, bool trainable_only) {
  std::int64_t n = 0;
  for (const Parameter& p : graph.parameters()) {
    if (counts(p) && (p.trainable || !trainable_only)) n += p.shape.count();
  }
  return n;
}

class RetinaNetStructure : public ::testing::TestWithParam<const char*> {
 protected:
  RetinaNetStructure()
      : golden_(read_golden("state_dict_retinanet_" + std::string(GetParam()) + ".json")) {}
  ModelOptions options(NormKind norm, int stages) const {
    return retinanet_options(golden_["backbone"].GetString(), golden_["num_classes"].GetInt(), norm,
                             stages);
  }
  std::map<std::string, std::string> expected(bool counters) const {
    std::map<std::string, std::string> state;
    for (const auto& [name, shape] : golden_["tensors"].GetObject()) {
      const bool counter = std::string_view(name.GetString()).ends_with("num_batches_tracked");
      if (!counter || counters) state[name.GetString()] = to_string(shape_of(shape));
    }
    return state;
  }
  rapidjson::Document golden_;
};

TEST_P(RetinaNetStructure, StateDictIsTorchvisions) {
  EXPECT_EQ(state_dict(training_graph(options(NormKind::kBatch, 5))), expected(true));
  EXPECT_EQ(state_dict(training_graph(options(NormKind::kSync, 5))), expected(true));
  EXPECT_EQ(state_dict(training_graph(options(NormKind::kFrozen, 3))), expected(false));
}

TEST_P(RetinaNetStructure, InferenceHasTheSameState) {
  for (NormKind norm : {NormKind::kBatch, NormKind::kSync, NormKind::kFrozen}) {
    Graph graph;
    make_model(options(norm, 5))->inference(graph, kSmall);
    EXPECT_EQ(state_dict(graph), expected(norm != NormKind::kFrozen));
    EXPECT_TRUE(graph.losses().empty());
  }
}

TEST_P(RetinaNetStructure, CountsAreTorchvisions) {
  for (const auto& [key, norm] : std::map<const char*, NormKind>{{"batch", NormKind::kBatch},
                                                                 {"frozen", NormKind::kFrozen}}) {
    const std::int64_t all = golden_["parameters"][key].GetInt64();
    for (int stages = 0; stages <= 5; ++stages) {
      const Graph graph = training_graph(options(norm, stages));
      // torchvision replaces a frozen norm's weight and bias by buffers
      EXPECT_EQ(num_parameters(graph, false), all) << key;
      EXPECT_EQ(num_parameters(graph, true), golden_["trainable"][key][stages].GetInt64())
          << key << " " << stages;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backbones, RetinaNetStructure,
                         ::testing::Values("r18", "r34", "r50", "r101", "x50"),
                         [](const auto& info) { return std::string(info.param); });

TEST(RetinaNet, PublishedParameterCounts) {
  for (const auto& [classes, count] : {std::pair{91, 34'014'999}, std::pair{80, 33'786'804}}) {
    const auto options = retinanet_options("resnet50", classes, NormKind::kFrozen, 3);
    EXPECT_EQ(num_parameters(training_graph(options), false), count);
  }
}

// A frozen stage's statistics still follow the data, as in torchvision.
TEST(RetinaNet, FrozenStagesKeepTheirBatchStatistics) {
  const Graph graph = training_graph(retinanet_options("resnet18", 4, NormKind::kBatch, 1));
  const auto layout = plan(graph, {}).layout;
  EXPECT_LT(layout->slot("backbone.body.conv1.weight").bucket, 0);
  EXPECT_LT(layout->slot("backbone.body.layer3.1.bn2.weight").bucket, 0);
  EXPECT_GE(layout->slot("backbone.body.bn1.running_mean").bucket, 0);
  EXPECT_GE(layout->slot("backbone.body.layer4.1.bn2.weight").bucket, 0);
}

TEST(RetinaNet, FreshHeadStartsAtThePrior) {
  const Graph graph = training_graph(retinanet_options("resnet18", 4, NormKind::kFrozen, 3));
  for (const Parameter& p : graph.parameters()) {
    if (p.name == "head.classification_head.cls_logits.bias") {
      EXPECT_EQ(p.initializer.rule, Initializer::Rule::kConstant);
      EXPECT_FLOAT_EQ(p.initializer.a, -std::log(99.0f));
    }
    if (p.name == "head.regression_head.conv.0.0.weight") {
      EXPECT_EQ(p.initializer.rule, Initializer::Rule::kNormal);
      EXPECT_FLOAT_EQ(p.initializer.b, 0.01f);
    }
    if (p.name == "backbone.fpn.inner_blocks.0.0.weight") {  // kaiming_uniform(a = 1)
      EXPECT_EQ(p.initializer.rule, Initializer::Rule::kUniform);
      EXPECT_FLOAT_EQ(p.initializer.b, std::sqrt(3.0f / 128.0f));
      EXPECT_FLOAT_EQ(p.initializer.a, -p.initializer.b);
    }
    if (p.name == "backbone.body.layer2.0.conv1.weight") {  // kaiming_normal, fan out
      EXPECT_EQ(p.initializer.rule, Initializer::Rule::kKaimingNormal);
      EXPECT_FLOAT_EQ(p.initializer.a, 128.0f * 9.0f);
    }
  }
}

TEST(RetinaNet, ScaleInvariantAreTheConvolutionsBeforeBatchStatistics) {
  const Graph batch = training_graph(retinanet_options("resnet18", 4, NormKind::kBatch, 5));
  for (const Parameter& p : batch.parameters()) {
    const bool body = p.name.starts_with("backbone.body") && p.kind == ParameterKind::kWeight;
    EXPECT_EQ(p.scale_invariant, body) << p.name;
  }
  const Graph frozen = training_graph(retinanet_options("resnet18", 4, NormKind::kFrozen, 5));
  for (const Parameter& p : frozen.parameters()) EXPECT_FALSE(p.scale_invariant) << p.name;
}

TEST(RetinaNet, GroupNormTrains) {
  const Graph graph = training_graph(retinanet_options("resnet18", 4, NormKind::kGroup, 5));
  EXPECT_TRUE(graph.counters().empty());
  Program program(graph, true, DeviceCase{});
  fill_parameters(program, 3);
  program.set_input("image", values("image", 3 * 64 * 64));
  program.set_input("boxes", std::vector<float>{8, 8, 40, 44, 0, 0, 0, 0});
  program.set_input("labels", std::vector<std::int32_t>{2, 0});
  program.set_input("count", std::vector<std::int32_t>{1});
  program.run();
  EXPECT_GT(program.output("classification")[0], 0.0f);
  for (const char* name : {"backbone.body.conv1.weight", "backbone.body.bn1.weight",
                           "backbone.body.layer4.1.bn2.bias"}) {
    double norm = 0;
    for (float g : program.gradient(name)) norm += double{g} * g;
    EXPECT_TRUE(std::isfinite(norm) && norm > 0) << name;
  }
}

TEST(RetinaNet, UnknownNamesAreConfigErrors) {
  for (const char* backbone : {"resnet19", "resnext50", "vgg16", "resnet", ""}) {
    EXPECT_THROW(resnet_kind(backbone), comm::Error) << backbone;
  }
  ModelOptions options;
  options.name = "yolo";
  EXPECT_THROW(make_model(options), comm::Error);
}

}  // namespace
}  // namespace models::testing
