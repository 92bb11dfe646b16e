// Classifiers against PyTorch's and torchvision's (tests/peers/classifier_goldens.py): names,
// shapes and counts of the parameters, logits, loss and gradients; dropout, and what is refused.
#include "models/classifier.h"

#include "tests/models/golden_fixture.h"

namespace models::testing {
namespace {

const std::vector<int> kLayers = {784, 64, 64, 10};
constexpr BatchShape kDigits{.images = 6, .channels = 1, .height = 28, .width = 28};

ModelOptions classifier_options(const std::string& model, int num_classes) {
  ModelOptions options;
  const bool named = model == "mlp" || model == "cnn";
  options.name = named ? model : "classifier";
  if (!named) options.backbone = model;
  if (model == "mlp") options.layers = kLayers;
  options.num_classes = num_classes;
  return options;
}

BatchShape usual_shape(const std::string& model) {
  if (model == "mlp") return kDigits;
  const std::int64_t side = model == "cnn" ? 32 : model == "vgg16" ? 224 : 64;
  return {.images = 1, .height = side, .width = side};
}

Graph training_graph(const ModelOptions& options, const BatchShape& shape) {
  Graph graph;
  make_model(options)->training(graph, shape);
  return graph;
}

class ClassifierStructure : public ::testing::TestWithParam<const char*> {
 protected:
  ModelOptions options() const {
    const std::string model = GetParam();
    return classifier_options(model, model == "mlp" || model == "cnn" ? 10 : 1000);
  }
};

TEST_P(ClassifierStructure, StateDictIsPyTorchs) {
  const auto golden = read_golden("classifiers.json");
  const auto& expected = golden["structures"][GetParam()];
  std::map<std::string, std::string> state;
  for (const auto& [name, shape] : expected["tensors"].GetObject()) {
    state[name.GetString()] = to_string(shape_of(shape));
  }
  const Graph graph = training_graph(options(), usual_shape(GetParam()));
  EXPECT_EQ(state_dict(graph), state);
  EXPECT_EQ(num_parameters(graph), expected["parameters"].GetInt64());
  ASSERT_EQ(graph.losses().size(), 1u);
  EXPECT_EQ(graph.losses()[0].name, "classification");
}

TEST_P(ClassifierStructure, InferenceHasTheSameStateAndGivesLogits) {
  Graph graph;
  const BatchShape shape = usual_shape(GetParam());
  make_model(options())->inference(graph, shape);
  EXPECT_EQ(state_dict(graph), state_dict(training_graph(options(), shape)));
  EXPECT_TRUE(graph.losses().empty());
  ASSERT_EQ(graph.outputs().size(), 1u);
  EXPECT_EQ(graph.outputs()[0].name, "logits");
  const std::int64_t classes = options().num_classes;
  EXPECT_EQ(graph.shape(graph.outputs()[0].value), (Shape{shape.images, classes}));
}

INSTANTIATE_TEST_SUITE_P(Models, ClassifierStructure,
                         ::testing::Values("mlp", "cnn", "resnet18", "resnet34", "resnet50",
                                           "resnet101", "resnext50_32x4d", "vgg16"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Classifier, PublishedParameterCounts) {
  const std::map<std::string, std::int64_t> counts = {{"mlp", 55'050},
                                                      {"cnn", 8'475'530},
                                                      {"resnet18", 11'689'512},
                                                      {"resnet50", 25'557'032},
                                                      {"resnext50_32x4d", 25'028'904},
                                                      {"vgg16", 138'357'544}};
  for (const auto& [model, count] : counts) {
    const int classes = model == "mlp" || model == "cnn" ? 10 : 1000;
    const Graph graph = training_graph(classifier_options(model, classes), usual_shape(model));
    EXPECT_EQ(num_parameters(graph), count) << model;
  }
}

class ClassifierGolden : public ::testing::TestWithParam<const char*> {
 protected:
  ClassifierGolden()
      : golden_(read_golden("classifiers.json")),
        entry_(golden_["cases"][GetParam()]),
        case_(entry_["case"]) {
    const Shape image = shape_of(case_["image"]);
    shape_ = {.images = case_["images"].GetInt(),
              .channels = image[0],
              .height = image[1],
              .width = image[2]};
    options_ = classifier_options(case_["model"].GetString(), case_["num_classes"].GetInt());
    options_.norm = NormKind::kFrozen;
    options_.label_smoothing = case_["label_smoothing"].GetFloat();
  }
  Program filled(bool training) {
    Graph graph;
    const auto model = make_model(options_);
    training ? model->training(graph, shape_) : model->inference(graph, shape_);
    Program program(graph, training, DeviceCase{});
    const std::uint64_t seed = case_["seed"].GetUint64();
    fill_parameters(program, seed);
    const std::int64_t pixels = shape_.images * shape_.channels * shape_.height * shape_.width;
    program.set_input(
        "image", goldens::values(seed, "image", static_cast<std::size_t>(pixels), {0.5f, 0.5f}));
    return program;
  }

  rapidjson::Document golden_;
  const rapidjson::Value& entry_;
  const rapidjson::Value& case_;
  BatchShape shape_;
  ModelOptions options_;
};

TEST_P(ClassifierGolden, LossAndGradientsArePyTorchs) {
  Program program = filled(true);
  std::vector<std::int32_t> labels;
  for (int i = 0; i < shape_.images; ++i) labels.push_back(3 * i % options_.num_classes);
  program.set_input("label", labels);
  program.run();
  const double loss = entry_["loss"].GetDouble();
  EXPECT_NEAR(program.output("classification")[0], loss, 1e-6 * loss);
  int num_compared = 0;
  for (const ParameterSlot& slot : program.storage().layout->slots) {
    if (slot.bucket < 0) continue;
    const std::string& name = slot.parameter.name;
    const auto expected = golden_statistics(entry_["gradients"][name.c_str()]);
    const std::vector<float> gradient = program.gradient(name);
    const auto got = goldens::statistics<float>(name, gradient);
    EXPECT_LT(goldens::distance(got, expected), 2e-5) << name;
    for (std::size_t i = 0; i < expected.first.size(); ++i) {
      EXPECT_NEAR(got.first[i], expected.first[i], 2e-5 * expected.norm) << name << " " << i;
    }
    ++num_compared;
  }
  EXPECT_GE(num_compared, 6);
}

TEST_P(ClassifierGolden, LogitsArePyTorchs) {
  Program program = filled(false);
  program.run();
  const auto expected = numbers(entry_["logits"][0]);
  const auto logits = program.output("logits");
  ASSERT_EQ(static_cast<int>(logits.size()), shape_.images * options_.num_classes);
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(logits[i], expected[i], 2e-5) << i;
}

INSTANTIATE_TEST_SUITE_P(Cases, ClassifierGolden,
                         ::testing::Values("mlp", "mlp_smoothed", "cnn", "resnet18",
                                           "resnext50_32x4d"),
                         [](const auto& info) { return std::string(info.param); });

// The perceptron with dropout, on digits of noise.
class Dropped {
 public:
  explicit Dropped(float dropout) {
    ModelOptions options = classifier_options("mlp", 10);
    options.dropout = dropout;
    options.label_smoothing = 0.1f;
    program_ = std::make_unique<Program>(training_graph(options, kDigits), true, DeviceCase{});
    fill_parameters(*program_, 2);
    program_->set_input("image", values("image", 6 * 784, 0.0f, 1.0f));
    program_->set_input("label", std::vector<std::int32_t>{0, 1, 2, 3, 4, 9});
    if (dropout > 0) draw(0, 0);
  }
  void draw(std::int64_t first_sample, std::int32_t epoch) {
    std::vector<std::int64_t> ids;
    for (int i = 0; i < 6; ++i) ids.push_back(first_sample + i);
    program_->set_input("sample_id", ids);
    program_->set_input("epoch", std::vector<std::int32_t>(6, epoch));
  }
  float loss() {
    program_->run();
    return program_->output("classification")[0];
  }
  Program& program() { return *program_; }

 private:
  std::unique_ptr<Program> program_;
};

TEST(ClassifierDropout, DrawsBySampleAndEpoch) {
  Dropped with(0.5f), without(0.0f);
  const float first = with.loss();
  EXPECT_EQ(with.loss(), first);
  with.draw(0, 1);
  EXPECT_NE(with.loss(), first);
  with.draw(100, 0);
  EXPECT_NE(with.loss(), first);
  with.draw(0, 0);
  EXPECT_EQ(with.loss(), first);
  EXPECT_NE(without.loss(), first);
}

TEST(ClassifierDropout, TakesNoIndexAndIsAbsentFromInference) {
  ModelOptions options = classifier_options("mlp", 10);
  const auto names = state_dict(training_graph(options, kDigits));
  options.dropout = 0.5f;
  EXPECT_EQ(state_dict(training_graph(options, kDigits)), names);
  Graph graph;
  make_model(options)->inference(graph, kDigits);
  for (const Node& node : graph.nodes()) EXPECT_NE(node.op->name(), "dropout");
}

// Along the gradient the loss rises by its square: d/dh loss(w + h g) = |g|^2.
TEST(ClassifierDropout, GradientIsTheSlopeOfTheLoss) {
  Dropped mlp(0.25f);
  Program& program = mlp.program();
  mlp.loss();
  double square = 0;
  std::map<std::string, std::vector<float>> start, gradient;
  for (const ParameterSlot& slot : program.storage().layout->slots) {
    const std::string& name = slot.parameter.name;
    start[name] = program.parameter(name);
    gradient[name] = program.gradient(name);
    for (float g : gradient[name]) square += double{g} * g;
  }
  const auto loss_at = [&](double h) {
    for (const auto& [name, w] : start) {
      std::vector<float> moved = w;
      for (std::size_t i = 0; i < w.size(); ++i)
        moved[i] = static_cast<float>(w[i] + h * gradient[name][i]);
      program.set_parameter(name, moved);
    }
    return double{mlp.loss()};
  };
  const double h = 1e-3 / std::sqrt(square);
  EXPECT_GT(square, 1e-3);
  EXPECT_NEAR((loss_at(h) - loss_at(-h)) / (2 * h), square, 0.01 * square);
}

TEST(Classifier, InitialisesAsPyTorch) {
  for (const char* model : {"mlp", "cnn", "resnet18"}) {
    const Graph graph = training_graph(classifier_options(model, 10), usual_shape(model));
    for (const Parameter& p : graph.parameters()) {
      const bool linear = p.name.starts_with("fc.") || std::isdigit(p.name[0]);
      if (!linear || p.kind != ParameterKind::kWeight) continue;
      const double fan_in = static_cast<double>(p.shape.count()) / p.shape[0];
      EXPECT_EQ(p.initializer.rule, Initializer::Rule::kUniform) << p.name;
      EXPECT_NEAR(p.initializer.b, 1 / std::sqrt(fan_in), 1e-7) << p.name;
      EXPECT_EQ(p.initializer.a, -p.initializer.b) << p.name;
      EXPECT_FALSE(p.scale_invariant) << p.name;
    }
  }
}

TEST(Classifier, ChannelsAndSizesComeFromTheBatch) {
  const Graph graph = training_graph(classifier_options("cnn", 5),
                                     {.images = 1, .channels = 1, .height = 28, .width = 30});
  EXPECT_EQ(state_dict(graph)["0.weight"], "64x1x3x3");
  EXPECT_EQ(state_dict(graph)["7.weight"], "1024x6272");  // 128 of 7x7
  EXPECT_EQ(state_dict(graph)["9.weight"], "5x1024");
}

std::string refusal(const ModelOptions& options, const BatchShape& shape) {
  try {
    training_graph(options, shape);
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), comm::ExitCode::kConfig);
    return e.what();
  }
  return "";
}

TEST(Classifier, WhatDoesNotFitIsAConfigError) {
  ModelOptions mlp = classifier_options("mlp", 10);
  EXPECT_NE(refusal(mlp, usual_shape("cnn")).find("set it to 3072"), std::string::npos);
  mlp.layers = {784};
  EXPECT_NE(refusal(mlp, kDigits).find("at least input and output"), std::string::npos);
  EXPECT_NE(refusal(classifier_options("vgg16", 10), usual_shape("cnn")).find("[224, 224]"),
            std::string::npos);
  EXPECT_NE(refusal(classifier_options("cnn", 10), {.height = 3, .width = 8}).find("[4, 4]"),
            std::string::npos);
  EXPECT_NE(refusal(classifier_options("resnet19", 10), usual_shape("resnet18")), "");
}

}  // namespace
}  // namespace models::testing
