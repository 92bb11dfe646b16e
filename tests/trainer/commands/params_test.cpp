#include "trainer/commands/params.h"

#include <gmock/gmock.h>

#include <cmath>

#include "comm/error.h"
#include "tests/trainer/commands/command_fixture.h"

namespace trainer {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr int kClasses = 4;
constexpr const char* kConv = "backbone.body.layer4.0.conv1.weight";
constexpr const char* kHead = "head.regression_head.bbox_reg.weight";
constexpr const char* kBias = "head.regression_head.bbox_reg.bias";
constexpr const char* kNorm = "backbone.body.layer4.0.bn1.weight";
constexpr const char* kStatistic = "backbone.body.layer4.0.bn1.running_mean";

ParamsReport report_of(const std::vector<std::string>& overrides = {}) {
  return params_report(small_config(overrides), kClasses, 2.0);
}

const ParameterRow& row(const ParamsReport& report, const std::string& name) {
  for (const ParameterRow& r : report.rows) {
    if (r.entry.parameter.name == name) return r;
  }
  throw std::out_of_range(name);
}

TEST(Params, BuiltInExemptionsLeaveWeightsAlone) {
  const ParamsReport report = report_of();
  EXPECT_EQ(row(report, kConv).entry.group, "decay");
  EXPECT_EQ(row(report, kConv).entry.l2, 1e-4);
  EXPECT_EQ(row(report, kBias).entry.group, "exempt: bias");
  EXPECT_EQ(row(report, kBias).entry.gradient, 0);
  EXPECT_EQ(row(report, kNorm).entry.group, "exempt: norm");
  EXPECT_EQ(row(report, kStatistic).entry.group, "statistic");
}

TEST(Params, EmptyRulesDecayEveryTrainableParameter) {
  const ParamsReport report = report_of({"regularization.rules=[]"});
  for (const char* name : {kConv, kBias, kNorm}) {
    EXPECT_EQ(row(report, name).entry.gradient, 1e-4) << name;
  }
  EXPECT_EQ(row(report, kStatistic).entry.gradient, 0);
}

TEST(Params, FirstMatchingRuleDecides) {
  const ParamsReport report =
      report_of({"regularization.rules=[{match: {name: \"head.*\"}, l2: 0.5, lr_scale: 10}, "
                 "{match: {kind: [weight]}, mode: decoupled}]"});
  EXPECT_EQ(row(report, kHead).entry.group, "rule 0");
  EXPECT_EQ(row(report, kHead).entry.l2, 0.5);
  EXPECT_EQ(row(report, kHead).entry.lr_scale, 10);
  EXPECT_EQ(row(report, kConv).entry.group, "rule 1");
  EXPECT_EQ(row(report, kConv).entry.mode, DecayMode::kDecoupled);
  EXPECT_THAT(row(report, kConv).entry.reason, HasSubstr("kind weight"));
  EXPECT_EQ(row(report, kNorm).entry.group, "decay");  // no rule: the defaults
  EXPECT_THAT(row(report, kNorm).entry.reason, HasSubstr("no rule"));
}

TEST(Params, RuleThatMatchesNothingIsAnError) {
  try {
    report_of({"regularization.rules=[{match: {name: \"nowhere.*\"}, l2: 0}]"});
    FAIL();
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), comm::ExitCode::kConfig);
    EXPECT_THAT(e.what(), HasSubstr("nowhere.*"));
  }
}

TEST(Params, ShrinkAndHalfLifeOfCoupledSgd) {
  const ParameterRow r = row(report_of(), kConv);
  const double shrink = 0.01 * 1e-4 / (1 - 0.9);
  ASSERT_TRUE(r.shrink && r.half_life_steps && r.half_life_epochs);
  EXPECT_NEAR(*r.shrink, shrink, 1e-15);
  EXPECT_NEAR(*r.half_life_steps, std::log(0.5) / std::log1p(-shrink), 1e-6);
  EXPECT_NEAR(*r.half_life_epochs, *r.half_life_steps / 2.0, 1e-9);
}

TEST(Params, FullConventionDoublesTheGradient) {
  const ParameterRow r = row(report_of({"regularization.convention=full"}), kConv);
  EXPECT_EQ(r.entry.l2, 1e-4);
  EXPECT_EQ(r.entry.gradient, 2e-4);
}

TEST(Params, DecoupledByTheScheduleAloneShrinksByLambda) {
  const ParameterRow r =
      row(report_of({"regularization.mode=decoupled", "regularization.decay_scale=schedule_only"}),
          kConv);
  EXPECT_DOUBLE_EQ(r.shrink.value(), 1e-4);
}

TEST(Params, AdaptiveRuleHasNoConstantShrinkUnlessDecoupled) {
  EXPECT_FALSE(row(report_of({"optimizer.name=adam"}), kConv).shrink);
  EXPECT_THAT(params_text(report_of({"optimizer.name=adam"})), HasSubstr("depends"));
  EXPECT_DOUBLE_EQ(row(report_of({"optimizer.name=adamw"}), kConv).shrink.value(), 1e-6);
}

TEST(Params, FrozenStagesAreNeitherTrainedNorDecayed) {
  const ParamsReport report = report_of({"model.trainable_stages=1"});
  EXPECT_FALSE(row(report, "backbone.body.layer3.0.conv1.weight").entry.trained);
  EXPECT_EQ(row(report, "backbone.body.layer3.0.conv1.weight").entry.group, "frozen");
  EXPECT_TRUE(row(report, kConv).entry.trained);
  EXPECT_THAT(params_text(report), HasSubstr("frozen"));
}

TEST(Params, MarksScaleInvariantWeightsAndExplains) {
  const ParamsReport report = report_of();
  EXPECT_TRUE(row(report, kConv).entry.parameter.scale_invariant);
  EXPECT_FALSE(row(report, kHead).entry.parameter.scale_invariant);
  const std::string text = params_text(report);
  EXPECT_THAT(text, HasSubstr(std::string(kConv) + " *"));
  EXPECT_THAT(text, Not(HasSubstr(std::string(kHead) + " *")));
  EXPECT_THAT(text, HasSubstr("effective learning rate"));
  EXPECT_THAT(params_text(report_of({"model.norm=frozen"})), Not(HasSubstr("scale-invariant")));
}

TEST(Params, TotalsAddUp) {
  const ParamsReport report = report_of();
  std::int64_t tensors = 0, elements = 0, of_rows = 0;
  for (const GroupTotal& group : report.groups) {
    tensors += group.tensors;
    elements += group.elements;
  }
  for (const ParameterRow& r : report.rows) of_rows += r.elements;
  EXPECT_EQ(tensors, std::ssize(report.rows));
  EXPECT_EQ(elements, report.total.elements);
  EXPECT_EQ(elements, of_rows);
}

TEST(Params, RowsAreInTheOrderOfTheNetwork) {
  const ParamsReport report = report_of();
  EXPECT_EQ(report.rows.front().entry.parameter.name, "backbone.body.conv1.weight");
}

TEST(Params, JsonHoldsEveryRowAndNullsWhatIsUnknown) {
  const ParamsReport report = params_report(small_config(), kClasses, std::nullopt);
  const rapidjson::Document json = parse_json(params_json(report));
  ASSERT_EQ(json["parameters"].Size(), report.rows.size());
  const auto& first = json["parameters"][0];
  EXPECT_STREQ(first["name"].GetString(), "backbone.body.conv1.weight");
  EXPECT_EQ(first["shape"].Size(), 4u);
  EXPECT_EQ(first["l2"].GetDouble(), 1e-4);
  EXPECT_TRUE(first["half_life_steps"].IsDouble());
  EXPECT_TRUE(first["half_life_epochs"].IsNull());
  EXPECT_EQ(json["total"]["elements"].GetInt64(), report.total.elements);
}

TEST(Params, TextShowsADashForUnknownEpochs) {
  const std::string with = params_text(report_of());
  const std::string without = params_text(params_report(small_config(), kClasses, std::nullopt));
  EXPECT_NE(with, without);
  EXPECT_THAT(without, HasSubstr("epochs"));
}

}  // namespace
}  // namespace trainer
