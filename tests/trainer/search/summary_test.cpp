#include "trainer/search/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include <cmath>

#include "trainer/search/search_report.h"

namespace trainer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const std::vector<std::string> kL2 = {"regularization.l2"};

struct Measured {
  int candidate;
  std::int64_t seed;
  int fold;
  double metric;
  int code = 0;
  int rung = 0;
};

TrialRows rows_of(const std::vector<Measured>& measured, const std::vector<Values>& candidates) {
  TrialRows rows;
  for (const Measured& m : measured) {
    const Trial trial{m.candidate, m.seed, m.fold, m.rung};
    TrialRow row{trial.id(), candidates[static_cast<std::size_t>(m.candidate)], m.seed, m.fold,
                 m.rung};
    row.metric = m.metric;
    row.train_metric = m.metric + 0.125;
    row.loss = 1;
    row.code = m.code;
    if (m.code != 0) row.reason = "the loss is not finite";
    rows[row.id] = row;
  }
  return rows;
}

TEST(Statistics, OfFourNumbersByHand) {
  const Statistics s = statistics(std::vector<double>{2, 4, 4, 6});
  EXPECT_EQ(s.count, 4u);
  EXPECT_DOUBLE_EQ(s.mean, 4);
  EXPECT_DOUBLE_EQ(s.sd, std::sqrt(8.0 / 3));
  EXPECT_DOUBLE_EQ(s.error, std::sqrt(8.0 / 3) / 2);
}

TEST(Statistics, OfTooFewAreUndefined) {
  EXPECT_TRUE(std::isnan(statistics({}).mean));
  const Statistics one = statistics(std::vector<double>{3});
  EXPECT_EQ(one.mean, 3);
  EXPECT_TRUE(std::isnan(one.sd));
  EXPECT_TRUE(std::isnan(one.error));
}

const std::vector<Values> kThree = {{"0.001"}, {"0.01"}, {"0.1"}};

// Means .80, .90, .85; the best has sd .1 and standard error .1 / sqrt(4) = .05 around .90, so
// .85 is within it.
std::vector<Measured> u_curve(double last) {
  const double e = 0.05 * std::sqrt(3.0);  // four values +-e around a mean: sd = .1
  return {{0, 1, 0, 0.8},      {0, 1, 1, 0.8},      {0, 2, 0, 0.8},      {0, 2, 1, 0.8},
          {1, 1, 0, 0.9 - e},  {1, 1, 1, 0.9 + e},  {1, 2, 0, 0.9 - e},  {1, 2, 1, 0.9 + e},
          {2, 1, 0, last - e}, {2, 1, 1, last + e}, {2, 2, 0, last - e}, {2, 2, 1, last + e}};
}

TEST(Choice, OneStandardErrorTakesTheMostRegularisedWithin) {
  const Summary summary = summarize(rows_of(u_curve(0.8501), kThree), kL2, kThree);
  ASSERT_EQ(summary.best, 1);
  EXPECT_NEAR(summary.candidates[1].metric.mean, 0.9, 1e-12);
  EXPECT_NEAR(summary.candidates[1].metric.sd, 0.1, 1e-12);
  EXPECT_NEAR(summary.candidates[1].metric.error, 0.05, 1e-12);
  EXPECT_EQ(summary.one_error, 2);
}

TEST(Choice, BeyondOneStandardErrorTheBestStands) {
  const Summary summary = summarize(rows_of(u_curve(0.8499), kThree), kL2, kThree);
  EXPECT_EQ(summary.best, 1);
  EXPECT_EQ(summary.one_error, 1);
}

TEST(Choice, WithoutARegularizerThereIsNoOneErrorChoice) {
  const Summary summary = summarize(rows_of(u_curve(0.86), kThree), {"optimizer.lr"}, kThree);
  EXPECT_EQ(summary.best, 1);
  EXPECT_EQ(summary.one_error, -1);
}

TEST(Paired, DifferencesCancelWhatFoldsShare) {
  // Folds differ by .2; within a fold the second is better by .01 and .03.
  const std::vector<Values> two = {{"0"}, {"1"}};
  const Summary summary = summarize(
      rows_of({{0, 1, 0, 0.6}, {0, 1, 1, 0.8}, {1, 1, 0, 0.61}, {1, 1, 1, 0.83}}, two), kL2, two);
  ASSERT_EQ(summary.best, 1);
  const Statistics& difference = summary.candidates[0].difference;
  EXPECT_EQ(difference.count, 2u);
  EXPECT_NEAR(difference.mean, -0.02, 1e-12);
  EXPECT_NEAR(difference.error, 0.01, 1e-12);  // sd .01 sqrt(2), over sqrt(2)
  EXPECT_GT(summary.candidates[0].metric.error, 0.09);
}

TEST(Paired, OnlyPairsThatBothHaveCount) {
  const std::vector<Values> two = {{"0"}, {"1"}};
  const Summary summary = summarize(
      rows_of({{0, 1, 0, 0.5}, {0, 1, 1, 0.5}, {1, 1, 0, 0.7}, {1, 1, 2, 0.7}}, two), kL2, two);
  EXPECT_EQ(summary.candidates[0].difference.count, 1u);
  EXPECT_NEAR(summary.candidates[0].difference.mean, -0.2, 1e-12);
}

TEST(Failures, ACandidateWithOneIsBestOnlyWithoutOthers) {
  const std::vector<Values> two = {{"0"}, {"1"}};
  const double nan = std::nan("");
  std::vector<Measured> measured = {
      {0, 1, 0, 0.5}, {0, 1, 1, 0.5}, {1, 1, 0, 0.9}, {1, 1, 1, nan, 79}};
  Summary summary = summarize(rows_of(measured, two), kL2, two);
  EXPECT_EQ(summary.best, 0);
  EXPECT_EQ(summary.one_error, 0);
  EXPECT_EQ(summary.candidates[1].num_failed, 1u);
  EXPECT_EQ(summary.candidates[1].metric.count, 1u);
  EXPECT_EQ(summary.candidates[1].reason, "the loss is not finite");
  measured[1] = {0, 1, 1, nan, 79};
  summary = summarize(rows_of(measured, two), kL2, two);
  EXPECT_EQ(summary.best, 1);
}

TEST(Failures, NothingFinishedHasNoBest) {
  const Summary summary = summarize(rows_of({{0, 1, 0, std::nan(""), 65}}, {{"0"}}), kL2, {{"0"}});
  EXPECT_EQ(summary.best, -1);
  EXPECT_EQ(summary.one_error, -1);
}

TEST(Halving, TheLastRungDecides) {
  const Summary summary = summarize(rows_of({{0, 1, 0, 0.9},
                                             {1, 1, 0, 0.5},
                                             {2, 1, 0, 0.6},
                                             {1, 1, 0, 0.7, 0, 1},
                                             {2, 1, 0, 0.65, 0, 1}},
                                            kThree),
                                    kL2, kThree);
  EXPECT_EQ(summary.best, 1);
  EXPECT_EQ(summary.candidates[1].metric.mean, 0.7);
  EXPECT_EQ(summary.candidates[0].rung, 0);
  EXPECT_EQ(summary.candidates[0].difference.count, 0u);
}

TEST(Halving, AThirdWithTheHighestMeansSurvives) {
  const std::vector<Values> four = {{"1"}, {"2"}, {"3"}, {"4"}};
  const Summary rung = summarize(
      rows_of({{0, 1, 0, 0.5}, {1, 1, 0, 0.9}, {2, 1, 0, std::nan(""), 79}, {3, 1, 0, 0.7}}, four),
      kL2, four);
  EXPECT_THAT(survivors(rung, {0, 1, 2, 3}), ElementsAre(1, 3));
  EXPECT_THAT(survivors(rung, {0, 2}), ElementsAre(0));
  EXPECT_THAT(survivors(rung, {2}), ElementsAre());
}

SearchResult result_of(double last) {
  SearchResult result;
  result.overs = {parse_over("regularization.l2=1e-3..1e-1:log:3")};
  result.metric = "classification/accuracy";
  result.strategy = "grid";
  result.folds = 2;
  result.seeds = 2;
  result.rows = rows_of(u_curve(last), kThree);
  result.summary = summarize(result.rows, kL2, kThree);
  return result;
}

TEST(Report, TheTableMarksBothChoices) {
  const std::string table = result_table(result_of(0.8501));
  EXPECT_THAT(table, HasSubstr("0.9000 ± 0.1000"));
  EXPECT_THAT(table, HasSubstr("best\n"));
  EXPECT_THAT(table, HasSubstr("1 SE\n"));
  EXPECT_THAT(table, HasSubstr("2 folds x 2 seeds"));
  EXPECT_THAT(result_table(result_of(0.5)), HasSubstr("best, 1 SE"));
}

TEST(Report, TheTableNamesFailures) {
  SearchResult result = result_of(0.5);
  TrialRow& row = result.rows.begin()->second;
  row.code = 79;
  row.reason = "step 4: the loss is not finite";
  result.summary = summarize(result.rows, kL2, kThree);
  EXPECT_THAT(result_table(result), HasSubstr("0.001: 1 failed; step 4: the loss"));
}

TEST(Report, JsonHoldsChoicesAndNullForUndefined) {
  SearchResult result = result_of(0.8501);
  rapidjson::Document json;
  json.Parse(result_json(result).c_str());
  ASSERT_FALSE(json.HasParseError());
  EXPECT_EQ(json["best"]["values"]["regularization.l2"].GetDouble(), 0.01);
  EXPECT_EQ(json["one_standard_error"]["candidate"].GetInt(), 2);
  EXPECT_NEAR(json["candidates"][1]["held_out"]["sd"].GetDouble(), 0.1, 1e-12);
  EXPECT_EQ(json["candidates"][0]["difference_to_best"]["count"].GetInt(), 4);
  result.rows.clear();
  result.summary = summarize(result.rows, kL2, kThree);
  json.Parse(result_json(result).c_str());
  EXPECT_TRUE(json["best"].IsNull());
  EXPECT_TRUE(json["candidates"][0]["held_out"]["mean"].IsNull());
}

TEST(Report, ThePictureShowsBothErrorsAndTheChoices) {
  const std::string svg = curve_svg(result_of(0.8501));
  EXPECT_THAT(svg, HasSubstr("held out"));
  EXPECT_THAT(svg, HasSubstr("training"));
  EXPECT_THAT(svg, HasSubstr("1 SE"));
  EXPECT_THAT(svg, HasSubstr("1 - classification/accuracy"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace trainer
