#include "trainer/optim/ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/trainer/optim/optim_fixture.h"

namespace trainer::testing {
namespace {

using models::Parameter;

std::vector<Parameter> trained() {
  std::vector<Parameter> made{
      parameter("backbone.body.conv1.weight", 4),
      parameter("backbone.body.bn1.weight", 2, models::ParameterKind::kNorm),
      parameter("backbone.body.bn1.running_mean", 2, models::ParameterKind::kStatistic),
      parameter("backbone.norm4.weight", 2, models::ParameterKind::kScale),
      parameter("head.conv.weight", 4),
      parameter("head.conv.bias", 2, models::ParameterKind::kBias)};
  made[0].scale_invariant = true;
  return made;
}

models::ParameterLayout layout() {
  return models::make_parameter_layout(
      trained(),
      {parameter("stem.weight", 3), parameter("up.weight", 3, models::ParameterKind::kFixed)}, 1);
}

Rule match_name(const std::string& glob, std::optional<double> l2 = {}) {
  Rule rule;
  rule.match.name = glob;
  rule.l2 = l2;
  rule.origin = "run.yaml:12";
  return rule;
}

Rule match_kind(std::vector<ParameterKind> kinds, std::optional<double> l2 = {}) {
  Rule rule;
  rule.match.kind = std::move(kinds);
  rule.l2 = l2;
  return rule;
}

std::map<std::string, LedgerEntry> ledger_of(const RegularizationConfig& config) {
  std::map<std::string, LedgerEntry> by_name;
  for (const LedgerEntry& entry : make_ledger(layout(), config)) {
    by_name[entry.parameter.name] = entry;
  }
  return by_name;
}

RegularizationConfig base() {
  RegularizationConfig config;
  config.l2 = 1e-4;
  config.l1 = 1e-6;
  return config;
}

TEST(Ledger, BuiltInExemptions) {
  const auto ledger = ledger_of(base());
  ASSERT_EQ(ledger.size(), 8u);
  for (const char* name : {"backbone.body.conv1.weight", "head.conv.weight"}) {
    EXPECT_EQ(ledger.at(name).l2, 1e-4) << name;
    EXPECT_EQ(ledger.at(name).gradient, 1e-4) << name;
    EXPECT_EQ(ledger.at(name).l1, 1e-6) << name;
    EXPECT_EQ(ledger.at(name).group, "decay") << name;
  }
  const std::pair<const char*, const char*> exempt[] = {
      {"backbone.body.bn1.weight", "exempt: norm"},
      {"backbone.norm4.weight", "exempt: scale"},
      {"head.conv.bias", "exempt: bias"},
      {"backbone.body.bn1.running_mean", "statistic"},
      {"stem.weight", "frozen"},
      {"up.weight", "frozen"}};
  for (const auto& [name, group] : exempt) {
    EXPECT_EQ(ledger.at(name).group, group) << name;
    EXPECT_EQ(ledger.at(name).gradient, 0) << name;
    EXPECT_EQ(ledger.at(name).l1, 0) << name;
    EXPECT_FALSE(ledger.at(name).reason.empty()) << name;
  }
  EXPECT_TRUE(ledger.at("head.conv.bias").trained);
  EXPECT_FALSE(ledger.at("stem.weight").trained);
  EXPECT_EQ(ledger.at("up.weight").reason, "fixed");
}

TEST(Ledger, EmptyRulesDecayEverythingTrained) {
  RegularizationConfig config = base();
  config.rules = std::vector<Rule>{};
  const auto ledger = ledger_of(config);
  for (const char* name : {"backbone.body.bn1.weight", "backbone.norm4.weight", "head.conv.bias",
                           "head.conv.weight"}) {
    EXPECT_EQ(ledger.at(name).gradient, 1e-4) << name;
  }
  EXPECT_EQ(ledger.at("stem.weight").gradient, 0);
  EXPECT_EQ(ledger.at("backbone.body.bn1.running_mean").gradient, 0);
}

TEST(Ledger, FullConventionDoublesTheGradientNotLambda) {
  RegularizationConfig config = base();
  config.convention = Convention::kFull;
  const LedgerEntry entry = ledger_of(config).at("head.conv.weight");
  EXPECT_EQ(entry.l2, 1e-4);
  EXPECT_EQ(entry.gradient, 2e-4);
  EXPECT_EQ(entry.l1, 1e-6);
}

TEST(Ledger, FirstMatchWinsAndOmittedFieldsAreInherited) {
  RegularizationConfig config = base();
  Rule head = match_name("head.*", 0.5);
  head.mode = DecayMode::kLoss;
  head.lr_scale = 3;
  config.rules = {head, match_kind({ParameterKind::kBias, ParameterKind::kNorm}, 0.0),
                  match_name("*conv*", 0.7)};
  const auto ledger = ledger_of(config);
  const LedgerEntry& bias = ledger.at("head.conv.bias");
  EXPECT_EQ(bias.l2, 0.5);  // not 0: the name came first
  EXPECT_EQ(bias.mode, DecayMode::kLoss);
  EXPECT_EQ(bias.lr_scale, 3);
  EXPECT_EQ(bias.l1, 1e-6);
  EXPECT_EQ(bias.group, "rule 0");
  EXPECT_THAT(bias.reason, ::testing::HasSubstr("head.*"));
  EXPECT_EQ(ledger.at("backbone.body.bn1.weight").l2, 0);
  EXPECT_EQ(ledger.at("backbone.body.conv1.weight").l2, 0.7);
  EXPECT_EQ(ledger.at("backbone.body.conv1.weight").mode, DecayMode::kCoupled);
  const LedgerEntry& rest = ledger.at("backbone.norm4.weight");  // no exemption beside rules
  EXPECT_EQ(rest.l2, 1e-4);
  EXPECT_EQ(rest.group, "decay");
}

TEST(Ledger, AllFieldsOfAMatchMustHold) {
  RegularizationConfig config = base();
  Rule rule = match_name("*.weight", 0.5);
  rule.match.module = "backbone.*";
  rule.match.scale_invariant = true;
  config.rules = {rule};
  const auto ledger = ledger_of(config);
  EXPECT_EQ(ledger.at("backbone.body.conv1.weight").l2, 0.5);
  EXPECT_EQ(ledger.at("backbone.body.bn1.weight").l2, 1e-4);  // not scale invariant
  EXPECT_EQ(ledger.at("head.conv.weight").l2, 1e-4);          // another module
  rule.match = {};
  rule.match.module = "head.conv";  // the module is the name without its last part
  config.rules = {rule};
  EXPECT_EQ(ledger_of(config).at("head.conv.bias").l2, 0.5);
}

TEST(Ledger, RuleThatMatchesNothingIsNamed) {
  RegularizationConfig config = base();
  config.rules = {match_name("head.*", 0.5), match_name("haed.*", 0.5)};
  try {
    ledger_of(config);
    FAIL() << "no error";
  } catch (const comm::Error& error) {
    EXPECT_EQ(error.code(), comm::ExitCode::kConfig);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("run.yaml:12"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("rules[1]"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("haed.*"));
  }
}

// Shadowed by an earlier rule, or naming frozen tensors only: matched, hence no misspelling.
TEST(Ledger, ShadowedAndFrozenRulesAreNoErrors) {
  RegularizationConfig config = base();
  config.rules = {match_name("*"), match_name("head.*", 0.5), match_name("stem.*", 0.5)};
  const auto ledger = ledger_of(config);
  EXPECT_EQ(ledger.at("head.conv.weight").group, "rule 0");
  EXPECT_EQ(ledger.at("stem.weight").group, "frozen");
  EXPECT_EQ(ledger.at("stem.weight").gradient, 0);
}

TEST(Glob, StarsAndQuestionMarks) {
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("*", "a.b"));
  EXPECT_TRUE(glob_match("layer?.*.bn*", "layer2.0.bn1.weight"));
  EXPECT_TRUE(glob_match("*a*ab", "aaab"));
  EXPECT_TRUE(glob_match("**b", "ab"));
  EXPECT_FALSE(glob_match("layer?", "layer"));
  EXPECT_FALSE(glob_match("layer", "layer2"));
  EXPECT_FALSE(glob_match("", "a"));
  EXPECT_FALSE(glob_match("*a*b", "ba"));
  EXPECT_FALSE(glob_match("conv.weight", "convxweight"));  // a dot is a dot
}

TEST(Shrink, PerStepAndHalfLife) {
  OptimizerConfig optimizer;
  optimizer.momentum = 0.9;
  RegularizationConfig config;
  LedgerEntry entry;
  entry.gradient = 1e-3;
  entry.lr_scale = 2;
  EXPECT_DOUBLE_EQ(shrink_per_step(entry, optimizer, config, 0.01), 2e-4);  // 10x of momentum
  entry.mode = DecayMode::kDecoupled;
  EXPECT_DOUBLE_EQ(shrink_per_step(entry, optimizer, config, 0.01), 2e-5);
  config.decay_scale = DecayScale::kScheduleOnly;
  EXPECT_DOUBLE_EQ(shrink_per_step(entry, optimizer, config, 0.01), 2e-3);
  entry.mode = DecayMode::kCoupled;
  optimizer.name = OptimizerName::kAdam;
  EXPECT_EQ(shrink_per_step(entry, optimizer, config, 0.01), 0);
  entry.trained = false;
  optimizer.name = OptimizerName::kSgd;
  EXPECT_EQ(shrink_per_step(entry, optimizer, config, 0.01), 0);
  EXPECT_DOUBLE_EQ(half_life_steps(0.5), 1.0);
  EXPECT_NEAR(half_life_steps(1e-5), std::log(2.0) * 1e5, 1.0);
  EXPECT_EQ(half_life_steps(0), 0);
}

// What the ledger promises is what the update does, momentum and learning-rate scale included.
TEST(Shrink, IsWhatTheUpdateDoesAtRest) {
  for (DecayMode mode : {DecayMode::kCoupled, DecayMode::kLoss, DecayMode::kDecoupled}) {
    for (DecayScale scale : {DecayScale::kLr, DecayScale::kScheduleOnly}) {
      OptimizerSetup setup = sgd(1e-3, mode, 0.9);
      setup.regularization.decay_scale = scale;
      Rule rule = match_name("w");
      rule.lr_scale = 2;
      setup.regularization.rules = {rule};
      SoloOptimizer solo(setup, {{"w", {1}}});
      for (int step = 0; step < 300; ++step) solo.step({}, 0.01);  // momentum settles
      const double before = solo.weight();
      for (int step = 0; step < 100; ++step) solo.step({}, 0.01);
      const double shrink = 1.0 - std::pow(solo.weight() / before, 0.01);
      const double promised =
          shrink_per_step(solo.optimizer().ledger()[0], setup.rule, setup.regularization, 0.01);
      EXPECT_NEAR(shrink, promised, 0.01 * promised) << to_string(mode) << " " << to_string(scale);
    }
  }
}

}  // namespace
}  // namespace trainer::testing
