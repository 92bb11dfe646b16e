// RetinaNet against torchvision from the same weights (tests/peers/retinanet_goldens.py): losses,
// gradients, three steps of SGD, and what the network says at inference. Convolutions are direct.
#include <set>

#include "tests/models/golden_fixture.h"

namespace models::testing {
namespace {

constexpr double kLossTolerance = 1e-5;
constexpr double kGradientTolerance = 1e-4;  // of the gradient's norm
constexpr double kChangeTolerance = 1e-2;    // of the change's norm
constexpr double kOutputTolerance = 1e-5;

// Distance as the random signs estimate it, and every stored element by itself.
void expect_close(const std::string& name, std::span<const float> measured,
                  const rapidjson::Value& golden, double tolerance) {
  const auto expected = golden_statistics(golden);
  const auto got = goldens::statistics(name, measured);
  EXPECT_LT(goldens::distance(got, expected), tolerance) << name;
  EXPECT_NEAR(got.norm, expected.norm, tolerance * expected.norm) << name;
  for (std::size_t i = 0; i < expected.first.size(); ++i) {
    EXPECT_NEAR(got.first[i], expected.first[i], tolerance * expected.norm) << name << " " << i;
  }
}

// torch.optim.SGD: g += decay w; v = g at first, then momentum v + g; w -= rate v.
class Sgd {
 public:
  explicit Sgd(const rapidjson::Value& options)
      : rate_(options["lr"].GetFloat()),
        momentum_(options["momentum"].GetFloat()),
        decay_(options["weight_decay"].GetFloat()) {}

  void step(Program& program, const std::vector<std::string>& names) {
    for (const auto& name : names) {
      std::vector<float> w = program.parameter(name), g = program.gradient(name);
      auto [entry, first] = velocity_.try_emplace(name, w.size());
      std::vector<float>& v = entry->second;
      for (std::size_t i = 0; i < w.size(); ++i) {
        g[i] += decay_ * w[i];
        v[i] = first ? g[i] : momentum_ * v[i] + g[i];
        w[i] -= rate_ * v[i];
      }
      program.set_parameter(name, w);
    }
  }

 private:
  float rate_, momentum_, decay_;
  std::map<std::string, std::vector<float>> velocity_;
};

std::set<std::string> trained_names(const ParameterLayout& layout) {
  std::set<std::string> names;
  for (const ParameterSlot& slot : layout.slots) {
    const bool statistic = slot.parameter.kind == ParameterKind::kStatistic;
    if (slot.bucket >= 0 && !statistic) names.insert(slot.parameter.name);
  }
  return names;
}

class RetinaNetGolden : public ::testing::TestWithParam<const char*> {
 protected:
  RetinaNetGolden()
      : golden_(read_golden(std::string(GetParam()) + ".json")), case_(golden_["case"]) {}

  Program fill(Program program) {
    fill_parameters(program, case_["seed"].GetUint64());
    fill_images(program, case_);
    return program;
  }

  void expect_losses(const Program& program, int step, double tolerance) {
    for (const std::string name : {"classification", "bbox_regression"}) {
      const double value = golden_["losses"][step][(name + "_float64").c_str()].GetDouble();
      EXPECT_NEAR(program.output(name)[0], value, tolerance * value) << name << " step " << step;
    }
  }

  // What a micro-batch contributes is its mean and unbiased variance; momentum 0.1 moves the
  // stored statistics towards it.
  void expect_running_statistics(const Program& program) {
    for (const auto& [key, entry] : golden_["tensors"].GetObject()) {
      if (!entry.HasMember("value")) continue;
      std::vector<float> running = program.parameter(key.GetString());
      const std::vector<float> batch = program.gradient(key.GetString());
      for (std::size_t i = 0; i < running.size(); ++i) {
        running[i] = 0.9f * running[i] + 0.1f * batch[i];
      }
      expect_close(key.GetString(), running, entry["value"], kOutputTolerance);
    }
  }

  void expect_detections(const Program& program, int capacity) {
    const auto boxes = program.output("boxes"), scores = program.output("scores");
    const auto labels = program.output<std::int32_t>("labels");
    const auto count = program.output<std::int32_t>("count");
    for (rapidjson::SizeType n = 0; n < golden_["detections"].Size(); ++n) {
      const auto& expected = golden_["detections"][n];
      ASSERT_EQ(count[n], static_cast<int>(expected["scores"].Size()));
      for (rapidjson::SizeType i = 0; i < expected["scores"].Size(); ++i) {
        const std::size_t at = n * static_cast<std::size_t>(capacity) + i;
        EXPECT_EQ(labels[at], expected["labels"][i].GetInt()) << n << " " << i;
        EXPECT_NEAR(scores[at], expected["scores"][i].GetDouble(), 1e-5) << n << " " << i;
        for (int j = 0; j < 4; ++j) {
          EXPECT_NEAR(boxes[at * 4 + j], expected["boxes"][i][j].GetDouble(), 2e-3) << n << i;
        }
      }
    }
  }

  rapidjson::Document golden_;
  const rapidjson::Value& case_;
};

TEST_P(RetinaNetGolden, TrainsAlike) {
  Graph graph;
  make_model(retinanet_options(case_))->training(graph, batch_shape(case_));
  Program program = fill(Program(graph, true, DeviceCase{}));
  fill_targets(program, case_);
  std::map<std::string, std::vector<float>> before;
  std::vector<std::string> trained;
  for (const auto& [key, entry] : golden_["tensors"].GetObject()) {
    if (!entry.HasMember("gradient")) continue;
    trained.emplace_back(key.GetString());
    if (entry.HasMember("change")) before[trained.back()] = program.parameter(trained.back());
  }
  EXPECT_EQ(std::set(trained.begin(), trained.end()), trained_names(*program.storage().layout));
  program.run();
  expect_losses(program, 0, kLossTolerance);
  for (const auto& name : trained) {
    expect_close(name, program.gradient(name), golden_["tensors"][name.c_str()]["gradient"],
                 kGradientTolerance);
  }
  expect_running_statistics(program);
  if (before.empty()) return;

  Sgd sgd(golden_["sgd"]);
  for (int step = 1; step <= golden_["sgd"]["steps"].GetInt(); ++step) {
    sgd.step(program, trained);
    if (step == golden_["sgd"]["steps"].GetInt()) break;
    program.run();
    expect_losses(program, step, 1e-4);
  }
  for (auto& [name, change] : before) {
    const std::vector<float> after = program.parameter(name);
    for (std::size_t i = 0; i < change.size(); ++i) change[i] = after[i] - change[i];
    expect_close(name, change, golden_["tensors"][name.c_str()]["change"], kChangeTolerance);
  }
}

// Levels of (N, A K, H, W) as torchvision's (N, sum HWA, K).
std::vector<float> concatenate(const Program& program, const std::vector<std::string>& levels,
                               const std::vector<Shape>& shapes, std::int64_t k) {
  std::vector<float> result;
  for (std::int64_t n = 0; n < shapes[0][0]; ++n) {
    for (std::size_t level = 0; level < levels.size(); ++level) {
      const auto data = program.output(levels[level]);
      const std::int64_t channels = shapes[level][1], cells = shapes[level][2] * shapes[level][3];
      for (std::int64_t cell = 0; cell < cells; ++cell) {
        for (std::int64_t c = 0; c < channels; ++c) {
          result.push_back(data[static_cast<std::size_t>((n * channels + c) * cells + cell)]);
        }
      }
    }
  }
  EXPECT_EQ(static_cast<std::int64_t>(result.size()) % k, 0);
  return result;
}

struct Exposed {
  std::vector<std::string> names;
  std::vector<Shape> shapes;
};

// Makes what the convolutions of a module compute outputs of the graph: one a level.
Exposed expose(Graph& graph, const std::string& scope) {
  Exposed found;
  const auto nodes = graph.nodes();
  for (const Node& node : nodes) {
    if (node.scope != scope || node.op->name() != "conv2d") continue;
    found.names.push_back(scope + "@" + std::to_string(found.names.size()));
    found.shapes.push_back(graph.shape(node.outputs[0]));
    graph.output(found.names.back(), node.outputs[0]);
  }
  return found;
}

TEST_P(RetinaNetGolden, InfersAlike) {
  const bool detects = golden_.HasMember("detections");
  ModelOptions options = retinanet_options(case_);
  if (detects) {
    options.detect.score_threshold = golden_["eval"]["score_thresh"].GetFloat();
    options.detect.nms_iou = golden_["eval"]["nms_thresh"].GetFloat();
    options.detect.capacity = golden_["eval"]["detections_per_img"].GetInt();
  }
  Graph graph;
  make_model(options)->inference(graph, batch_shape(case_));
  std::map<std::string, Exposed> features;
  const std::string fpn = "backbone.fpn.";
  features["feature:3"] = expose(graph, fpn + "layer_blocks.0.0");
  features["feature:4"] = expose(graph, fpn + "layer_blocks.1.0");
  features["feature:5"] = expose(graph, fpn + "layer_blocks.2.0");
  features["feature:6"] = expose(graph, fpn + "extra_blocks.p6");
  features["feature:7"] = expose(graph, fpn + "extra_blocks.p7");
  const Exposed logits = expose(graph, "head.classification_head.cls_logits");
  const Exposed deltas = expose(graph, "head.regression_head.bbox_reg");
  ASSERT_EQ(logits.names.size(), 5u);
  ASSERT_EQ(deltas.names.size(), 5u);
  Program program = fill(Program(graph, false, DeviceCase{}));
  program.run();
  const auto& outputs = golden_["outputs"];
  for (const auto& [name, feature] : features) {
    ASSERT_EQ(feature.names.size(), 1u) << name;
    EXPECT_EQ(feature.shapes[0], shape_of(outputs[name.c_str()]["shape"])) << name;
    expect_close(name, program.output(feature.names[0]), outputs[name.c_str()]["value"],
                 kOutputTolerance);
  }
  expect_close("cls_logits",
               concatenate(program, logits.names, logits.shapes, case_["num_classes"].GetInt()),
               outputs["cls_logits"]["value"], kOutputTolerance);
  expect_close("bbox_regression", concatenate(program, deltas.names, deltas.shapes, 4),
               outputs["bbox_regression"]["value"], kOutputTolerance);
  if (detects) expect_detections(program, options.detect.capacity);
}

INSTANTIATE_TEST_SUITE_P(Cases, RetinaNetGolden,
                         ::testing::Values("retinanet_x50_stages3", "retinanet_r18_stages3",
                                           "retinanet_r18_stages5", "retinanet_r18_no_boxes",
                                           "retinanet_r18_batch_norm", "retinanet_r50_stages3",
                                           "retinanet_r50_stages5"),
                         [](const auto& info) { return std::string(info.param).substr(10); });

}  // namespace
}  // namespace models::testing
