// Ten steps of every rule against PyTorch's (tests/goldens/README.md: optimizers.json).
#include <gtest/gtest.h>
#include <rapidjson/document.h>
#include <rapidjson/istreamwrapper.h>

#include <cmath>
#include <fstream>

#include "tests/goldens/formula.h"
#include "tests/goldens/path.h"
#include "tests/trainer/optim/optim_fixture.h"

namespace trainer::testing {
namespace {

rapidjson::Document read_goldens() {
  std::ifstream file(goldens::path_of("optimizers.json"));
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

class PyTorch : public ::testing::Test {
 protected:
  // One formula for every tensor at a step; `kind`: "gradient" or "target".
  Tensors tensors(const std::string& kind, std::int64_t step) const {
    Tensors result;
    for (const auto& [name, values] : start_) {
      result[name] = goldens::values(document_["seed"].GetUint64(),
                                     name + ":" + kind + ":" + std::to_string(step), values.size(),
                                     formula_of(document_[(kind + "_formula").c_str()]));
    }
    return result;
  }
  static double lr_of(const rapidjson::Value& golden, std::int64_t step) {
    return golden["options"]["lr"].GetDouble() *
           golden["lr_factors"][static_cast<rapidjson::SizeType>(step)].GetDouble();
  }

  rapidjson::Document document_ = read_goldens();
  Tensors start_ = initial(document_);
  std::int64_t num_steps_ = document_["steps"].GetInt64();
};

TEST_F(PyTorch, TenStepsOfEveryRule) {
  for (const auto& [case_name, golden] : document_["cases"].GetObject()) {
    SoloOptimizer solo(setup_of(golden), start_);
    for (std::int64_t step = 0; step < num_steps_; ++step)
      solo.step(tensors("gradient", step), lr_of(golden, step));
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

// The gradients are those of the loss, so an error of one step enters all that follow.
TEST_F(PyTorch, LossesOfTenStepsOfEveryRule) {
  for (const auto& [case_name, golden] : document_["cases"].GetObject()) {
    SoloOptimizer solo(setup_of(golden), start_);
    ASSERT_EQ(golden["losses"].Size(), num_steps_);
    for (std::int64_t step = 0; step < num_steps_; ++step) {
      Tensors gradients = tensors("target", step);
      double loss = 0;
      for (auto& [name, values] : gradients) {
        const auto weights = solo.weights(name);
        for (std::size_t i = 0; i < values.size(); ++i) {
          const double distance = double{weights[i]} - values[i];
          loss += 0.5 * distance * distance;
          values[i] = weights[i] - values[i];
        }
      }
      const double theirs = golden["losses"][static_cast<rapidjson::SizeType>(step)].GetDouble();
      EXPECT_NEAR(loss, theirs, 1e-6 * theirs) << case_name.GetString() << " step " << step;
      solo.step(gradients, lr_of(golden, step));
    }
  }
}

// 1 - beta is rounded once: 1.0f - 0.999f would leave every second moment 5e-5 too large.
TEST_F(PyTorch, SecondMomentsStartAtOneMinusBeta) {
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
