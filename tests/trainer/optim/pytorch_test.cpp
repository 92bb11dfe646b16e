// Ten steps of every rule against PyTorch's (tests/goldens/README.md: optimizers.json).
#include <gtest/gtest.h>
#include <rapidjson/document.h>
#include <rapidjson/istreamwrapper.h>

#include <cmath>
#include <fstream>

#include "tests/goldens/formula.h"
#include "tests/trainer/optim/optim_fixture.h"

namespace trainer::testing {
namespace {

rapidjson::Document read_goldens() {
  std::ifstream file(RIDGELINE_SOURCE_DIR "/tests/goldens/optimizers.json");
  rapidjson::IStreamWrapper stream(file);
  rapidjson::Document document;
  document.ParseStream(stream);
  REQUIRE(!document.HasParseError(), "optimizers.json is missing or malformed");
  return document;
}

goldens::Formula formula_of(const rapidjson::Value& pair) {
  return {pair[0].GetFloat(), pair[1].GetFloat()};
}

OptimizerName name_of(const std::string& text) {
  for (OptimizerName name : {OptimizerName::kSgd, OptimizerName::kAdam, OptimizerName::kAdamw,
                             OptimizerName::kAdagrad, OptimizerName::kRmsprop}) {
    if (to_string(name) == text) return name;
  }
  comm::fail(comm::ExitCode::kBug, "optimizers.json: no rule {}", text);
}

// PyTorch decays everything it is given; absent options are its defaults.
OptimizerSetup setup_of(const rapidjson::Value& golden) {
  const rapidjson::Value& options = golden["options"];
  const auto number = [&](const char* key, double otherwise) {
    return options.HasMember(key) ? options[key].GetDouble() : otherwise;
  };
  OptimizerSetup setup = sgd(number("weight_decay", 0));
  OptimizerConfig& rule = setup.rule;
  rule.name = name_of(golden["name"].GetString());
  rule.momentum = number("momentum", 0);
  rule.nesterov = options.HasMember("nesterov") && options["nesterov"].GetBool();
  rule.alpha = number("alpha", 0.99);
  rule.eps = number("eps", rule.name == OptimizerName::kAdagrad ? 1e-10 : 1e-8);
  if (options.HasMember("betas")) {
    rule.betas = {options["betas"][0].GetDouble(), options["betas"][1].GetDouble()};
  }
  if (rule.name == OptimizerName::kAdamw) setup.regularization.mode = DecayMode::kDecoupled;
  return setup;
}

Tensors initial(const rapidjson::Document& document) {
  Tensors tensors;
  for (const auto& [name, shape] : document["shapes"].GetObject()) {
    std::size_t count = 1;
    for (const auto& extent : shape.GetArray()) count *= extent.GetUint();
    tensors[name.GetString()] = goldens::values(document["seed"].GetUint64(), name.GetString(),
                                                count, formula_of(document["parameter_formula"]));
  }
  return tensors;
}

TEST(PyTorch, TenStepsOfEveryRule) {
  const rapidjson::Document document = read_goldens();
  const Tensors start = initial(document);
  for (const auto& [case_name, golden] : document["cases"].GetObject()) {
    SoloOptimizer solo(setup_of(golden), start);
    std::int64_t step = 0;
    for (const auto& factor : golden["lr_factors"].GetArray()) {
      Tensors gradients;
      for (const auto& [name, values] : start) {
        gradients[name] = goldens::values(document["seed"].GetUint64(),
                                          name + ":gradient:" + std::to_string(step), values.size(),
                                          formula_of(document["gradient_formula"]));
      }
      solo.step(gradients, golden["options"]["lr"].GetDouble() * factor.GetDouble());
      ++step;
    }
    ASSERT_EQ(step, document["steps"].GetInt64());
    for (const auto& [name, values] : golden["parameters"].GetObject()) {
      const auto ours = solo.weights(name.GetString());
      ASSERT_EQ(ours.size(), values.Size());
      double scale = 0, worst = 0;
      for (std::size_t i = 0; i < ours.size(); ++i) {
        const double theirs = values[static_cast<rapidjson::SizeType>(i)].GetDouble();
        scale = std::max(scale, std::abs(theirs));
        worst = std::max(worst, std::abs(ours[i] - theirs));
      }
      EXPECT_LT(worst, 5e-7 * scale) << case_name.GetString() << " " << name.GetString();
    }
  }
}

// 1 - beta is rounded once: 1.0f - 0.999f would leave every second moment 5e-5 too large.
TEST(PyTorch, SecondMomentsStartAtOneMinusBeta) {
  for (OptimizerName name : {OptimizerName::kAdam, OptimizerName::kRmsprop}) {
    OptimizerSetup setup = sgd(0);
    setup.rule.name = name;
    setup.rule.alpha = 0.999;
    SoloOptimizer solo(setup, {{"w", {1}}});
    solo.step({{"w", {1}}}, 0.1);
    float second = 0;
    solo.optimizer().for_each_state([&](const std::string& state, const std::string&, std::int64_t,
                                        std::int64_t, std::span<float> piece) {
      if (state == "exp_avg_sq" || state == "square_avg") second = piece[0];
    });
    EXPECT_EQ(second, 0.001f) << to_string(name);
  }
}

}  // namespace
}  // namespace trainer::testing
