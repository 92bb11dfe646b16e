#include "trainer/search/candidates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "comm/error.h"
#include "trainer/config/load.h"
#include "trainer/search/definition.h"

namespace trainer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

SearchDefinition definition(const std::vector<std::string>& overs) {
  SearchDefinition result;
  for (const std::string& over : overs) result.overs.push_back(parse_over(over));
  return result;
}

comm::ExitCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const comm::Error& error) {
    return error.code();
  }
  return comm::ExitCode::kDone;
}

TEST(Candidates, AGridIsEveryCombination) {
  EXPECT_THAT(candidates(definition({"regularization.l2=0,1", "optimizer.name=sgd,adam"})),
              ElementsAre(Values{"0", "sgd"}, Values{"0", "adam"}, Values{"1", "sgd"},
                          Values{"1", "adam"}));
}

TEST(Candidates, AGridNeedsCountsAndAnEnd) {
  EXPECT_EQ(code_of([] { candidates(definition({"regularization.l2=1e-6..1:log"})); }),
            comm::ExitCode::kUsage);
  EXPECT_EQ(code_of([] {
              candidates(definition(
                  {"regularization.l2=1e-6..1:log:1000", "optimizer.lr=1e-6..1:log:1000"}));
            }),
            comm::ExitCode::kUsage);
}

TEST(Candidates, DrawsAreReproducibleDistinctAndInRange) {
  SearchDefinition random =
      definition({"regularization.l2=1e-6..1e-2:log", "optimizer.momentum=0.5..0.9:linear"});
  random.strategy = Strategy::kRandom;
  random.num_draws = 200;
  const auto points = candidates(random);
  EXPECT_EQ(points, candidates(random));
  ASSERT_EQ(points.size(), 200u);
  EXPECT_EQ(std::set<Values>(points.begin(), points.end()).size(), 200u);
  int below_middle = 0;
  for (const Values& point : points) {
    const double l2 = *as_number(point[0]), momentum = *as_number(point[1]);
    EXPECT_TRUE(l2 >= 1e-6 && l2 <= 1e-2) << l2;
    EXPECT_TRUE(momentum >= 0.5 && momentum <= 0.9) << momentum;
    below_middle += l2 < 1e-4;  // the middle of the logarithms
  }
  EXPECT_NEAR(below_middle, 100, 30);
  random.first_seed = 2;
  EXPECT_NE(points, candidates(random));
}

TEST(Halving, RungsGrowByThreeAndEndWhole) {
  EXPECT_THAT(rung_shares(Strategy::kGrid, 27), ElementsAre(1));
  EXPECT_THAT(rung_shares(Strategy::kHalving, 2), ElementsAre(1));
  EXPECT_EQ(rung_shares(Strategy::kHalving, 3), (std::vector<double>{1.0 / 3, 1}));
  EXPECT_EQ(rung_shares(Strategy::kHalving, 11).size(), 3u);
  EXPECT_NEAR(rung_shares(Strategy::kHalving, 27).front(), 1.0 / 27, 1e-12);
  EXPECT_EQ(num_survivors(9), 3u);
  EXPECT_EQ(num_survivors(11), 4u);
  EXPECT_EQ(num_survivors(1), 1u);
}

TEST(Trials, CoverCandidatesFoldsAndSeedsOnce) {
  SearchDefinition search;
  search.folds = 3;
  search.seeds = 2;
  search.first_seed = 10;
  const auto trials = trials_of(search, {0, 4}, 1);
  ASSERT_EQ(trials.size(), 12u);
  std::set<std::string> ids;
  for (const Trial& trial : trials) ids.insert(trial.id());
  EXPECT_EQ(ids.size(), 12u);
  EXPECT_TRUE(ids.contains("c004-s11-f2-r1"));
  // All candidates of a seed and fold before the next.
  EXPECT_EQ(trials[0].fold, trials[1].fold);
  EXPECT_NE(trials[0].candidate, trials[1].candidate);
  EXPECT_EQ(trials[0].run_name(), "c000-s10-f0");
}

TEST(Strategies, AMisspeltOneGetsTheNearest) {
  EXPECT_EQ(parse_strategy("random"), Strategy::kRandom);
  try {
    parse_strategy("halfing");
    FAIL() << "accepted";
  } catch (const comm::Error& error) {
    EXPECT_EQ(error.code(), comm::ExitCode::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("halving?"));
  }
}

Config small(const std::vector<std::string>& overrides = {}) {
  return parse_config("train: {epochs: 2}\ndata: {format: shapes}\n", "small.yaml", overrides)
      .config;
}

TEST(Definition, IsHeldToWhatDecidesResults) {
  const SearchDefinition search = definition({"regularization.l2=1e-6..1:log:3"});
  const std::string saved = definition_text(search, small(), {7}, {.threads = 2});
  EXPECT_EQ(threads_of_definition(saved), 2);
  const auto same = [&](const std::string& other) {
    return code_of([&] { require_same_definition(saved, other, "runs/a"); });
  };
  EXPECT_EQ(same(saved), comm::ExitCode::kDone);
  EXPECT_EQ(same(definition_text(search, small(), {7}, {.threads = 4})), comm::ExitCode::kDone);
  // Runtime keys are free, and so is the value that the search replaces.
  EXPECT_EQ(same(definition_text(search, small({"runtime.loader_threads=3"}), {7}, {.threads = 2})),
            comm::ExitCode::kDone);
  EXPECT_EQ(same(definition_text(search, small({"regularization.l2=0.5"}), {7}, {.threads = 2})),
            comm::ExitCode::kDone);
  EXPECT_EQ(same(definition_text(search, small({"optimizer.lr=0.5"}), {7}, {.threads = 2})),
            comm::ExitCode::kCheckpointRefused);
  EXPECT_EQ(same(definition_text(search, small({"train.epochs=3"}), {7}, {.threads = 2})),
            comm::ExitCode::kCheckpointRefused);
  EXPECT_EQ(same(definition_text(search, small(), {8}, {.threads = 2})),
            comm::ExitCode::kCheckpointRefused);
  // Trials measured in another way do not belong into one table.
  EXPECT_EQ(same(definition_text(search, small(), {7, 1}, {.threads = 2})),
            comm::ExitCode::kCheckpointRefused);
  EXPECT_EQ(same(definition_text(search, small({"eval.nms=0.7"}), {7}, {.threads = 2})),
            comm::ExitCode::kCheckpointRefused);
  EXPECT_EQ(same(definition_text(search, small({"eval.every_epochs=2"}), {7}, {.threads = 2})),
            comm::ExitCode::kDone);
  EXPECT_EQ(same(definition_text(search, small(), {7}, {comm::DeviceKind::kCuda, true, 2})),
            comm::ExitCode::kCheckpointRefused);
  SearchDefinition folds = search;
  folds.folds = 5;
  EXPECT_EQ(same(definition_text(folds, small(), {7}, {.threads = 2})),
            comm::ExitCode::kCheckpointRefused);
  SearchDefinition finer = definition({"regularization.l2=1e-6..1:log:4"});
  EXPECT_EQ(same(definition_text(finer, small(), {7}, {.threads = 2})),
            comm::ExitCode::kCheckpointRefused);
}

}  // namespace
}  // namespace trainer
