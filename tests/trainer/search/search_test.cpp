#include "trainer/search/search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <mutex>

#include "comm/communicator_local.h"
#include "tests/trainer/search/search_folder.h"

namespace trainer {
namespace {

using testing::HasSubstr;

constexpr const char* kTiny =
    "model: {name: retinanet, backbone: resnet18, norm: batch}\n"
    "data: {format: shapes, train: {limit: 6}, val: {limit: 2}, size: [64, 64], max_boxes: 8}\n"
    "train: {batch: 2, micro_batch: 1, steps: 2}\n"
    "optimizer: {name: sgd, lr: 0.01, momentum: 0.9}\n"
    "runtime: {threads: 1, loader_threads: 1}\n";

// What a search said on the console, and gave.
struct Outcome {
  SearchResult result;
  std::vector<std::string> said;
  int num_trials() const {
    return static_cast<int>(std::count_if(said.begin(), said.end(), [](const std::string& line) {
      return line.starts_with("trial ");
    }));
  }
};

Outcome search(const std::filesystem::path& out, const SearchDefinition& definition, int ranks,
               int ranks_per_trial = 1, const std::vector<std::string>& overrides = {}) {
  Outcome outcome;
  std::mutex mutex;
  const comm::StopSignals signals;
  comm::run_local(ranks, [&](comm::Communicator& communicator) {
    comm::Progress progress;
    SearchOptions options;
    options.definition = definition;
    options.ranks_per_trial = ranks_per_trial;
    options.out = out;
    options.load = [&](const std::vector<std::string>& more) {
      std::vector<std::string> all = overrides;
      all.insert(all.end(), more.begin(), more.end());
      return parse_config(kTiny, "tiny.yaml", all);
    };
    options.notify = [&](const std::string& line) {
      const std::lock_guard lock(mutex);
      outcome.said.push_back(line);
    };
    Search job(std::move(options), communicator, progress, signals);
    const SearchResult result = job.run();
    const std::lock_guard lock(mutex);
    if (communicator.rank() == 0) outcome.result = result;
  });
  return outcome;
}

SearchDefinition over(const std::string& text, int folds = 1) {
  SearchDefinition definition;
  definition.overs = {parse_over(text)};
  definition.folds = folds;
  return definition;
}

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

comm::Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const comm::Error& error) {
    return error;
  }
  return {comm::ExitCode::kDone, "no error"};
}

// Every measured number, without the seconds.
std::map<std::string, std::vector<double>> numbers(const TrialRows& rows) {
  std::map<std::string, std::vector<double>> result;
  for (const auto& [id, row] : rows) result[id] = {row.metric, row.train_metric, row.loss};
  return result;
}

TEST(Search, TwoRanksShareFoldsAndASecondStartRepeatsNothing) {
  const SearchFolder folder;
  const auto definition = over("regularization.l2=1e-4..1e-2:log:2", 2);
  const Outcome first = search(folder / "a", definition, 2);
  EXPECT_EQ(first.num_trials(), 4);
  ASSERT_EQ(first.result.rows.size(), 4u);
  for (const auto& [id, row] : first.result.rows) {
    EXPECT_EQ(row.code, 0) << row.reason;
    EXPECT_TRUE(std::isfinite(row.metric)) << id;
    EXPECT_TRUE(std::isfinite(row.loss)) << id;
    EXPECT_EQ(row.steps, 2);
    EXPECT_FALSE(std::filesystem::exists(folder / "a/trials/c000-s1-f0/checkpoints"));
  }
  EXPECT_EQ(first.result.summary.candidates[0].metric.count, 2u);
  const std::string csv = text_of(folder / "a/trials.csv");

  const Outcome second = search(folder / "a", definition, 1);
  EXPECT_EQ(second.num_trials(), 0);
  EXPECT_EQ(text_of(folder / "a/trials.csv"), csv);
  EXPECT_EQ(numbers(second.result.rows), numbers(first.result.rows));

  // A torn line: that trial alone runs again, on one rank, with the same numbers.
  std::ofstream(folder / "a/trials.csv", std::ios::binary) << csv.substr(0, csv.size() - 5);
  const Outcome third = search(folder / "a", definition, 1);
  EXPECT_EQ(third.num_trials(), 1);
  EXPECT_EQ(numbers(third.result.rows), numbers(first.result.rows));
}

TEST(Search, AnotherDefinitionInTheFolderIsRefused) {
  const SearchFolder folder;
  search(folder / "a", over("regularization.l2=0,1e-4"), 1);
  const comm::Error error =
      error_of([&] { search(folder / "a", over("regularization.l2=0,1e-3"), 1); });
  EXPECT_EQ(error.code(), comm::ExitCode::kCheckpointRefused);
  EXPECT_THAT(error.what(), HasSubstr("here 'over: regularization.l2=0,1e-3'"));
}

TEST(Search, ADivergedTrialIsReportedAndNotFatal) {
  const SearchFolder folder;
  const Outcome outcome = search(folder / "a", over("optimizer.lr=1e-3,900"), 2, 1,
                                 {"train.steps=6", "optimizer.momentum=0.99"});
  EXPECT_EQ(outcome.result.summary.best, 0);
  EXPECT_EQ(outcome.result.summary.one_error, -1);
  const auto& failed = outcome.result.summary.candidates[1];
  EXPECT_EQ(failed.num_failed, 1u);
  EXPECT_THAT(failed.reason, HasSubstr("finite"));
}

TEST(Search, WhenEveryTrialFailsTheFirstReasonEndsIt) {
  const SearchFolder folder;
  const comm::Error error = error_of([&] {
    search(folder / "a", over("optimizer.lr=800,900"), 1, 1,
           {"train.steps=6", "optimizer.momentum=0.99"});
  });
  EXPECT_EQ(error.code(), comm::ExitCode::kDiverged);
  EXPECT_THAT(error.what(), HasSubstr("all 2 trials failed"));
}

TEST(Search, HalvingContinuesTheSurvivors) {
  const SearchFolder folder;
  SearchDefinition definition = over("regularization.l2=0,1e-4,1e-2");
  definition.strategy = Strategy::kHalving;
  const Outcome outcome = search(folder / "a", definition, 2, 1, {"train.steps=3"});
  EXPECT_EQ(outcome.num_trials(), 4);  // three of a step, one goes on to three
  ASSERT_GE(outcome.result.summary.best, 0);
  const int best = outcome.result.summary.best;
  const auto& rows = outcome.result.rows;
  EXPECT_EQ(rows.at(Trial{best, 1, 0, 0}.id()).steps, 1);
  EXPECT_EQ(rows.at(Trial{best, 1, 0, 1}.id()).steps, 3);
  EXPECT_THAT(text_of(folder / ("a/trials/" + Trial{best, 1, 0, 1}.run_name() + "/log.txt")),
              HasSubstr("continuing from"));
}

TEST(Search, TwoRanksATrialGiveTheNumbersOfOne) {
  const SearchFolder folder;
  const auto definition = over("regularization.l2=0,1e-3");
  EXPECT_EQ(numbers(search(folder / "one", definition, 1).result.rows),
            numbers(search(folder / "two", definition, 2, 2).result.rows));
}

TEST(Search, RanksThatDoNotDivideAreUsage) {
  const SearchFolder folder;
  const comm::Error error =
      error_of([&] { search(folder / "a", over("regularization.l2=0,1e-3"), 3, 2); });
  EXPECT_EQ(error.code(), comm::ExitCode::kUsage);
  EXPECT_THAT(error.what(), HasSubstr("3 ranks"));
}

TEST(Search, AWrongKeyOrValueIsFoundBeforeAnyTrial) {
  const SearchFolder folder;
  const comm::Error key =
      error_of([&] { search(folder / "a", over("regularization.l3=1e-4..1:log:3"), 1); });
  EXPECT_EQ(key.code(), comm::ExitCode::kConfig);
  EXPECT_THAT(key.what(), HasSubstr("regularization.l2"));
  const comm::Error value =
      error_of([&] { search(folder / "b", over("optimizer.momentum=0..2:linear:3"), 2); });
  EXPECT_EQ(value.code(), comm::ExitCode::kConfig);
  EXPECT_FALSE(std::filesystem::exists(folder / "b/trials"));
}

}  // namespace
}  // namespace trainer
