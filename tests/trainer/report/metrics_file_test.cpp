#include "trainer/report/metrics_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "comm/error.h"
#include "tests/trainer/report/scratch_folder.h"

namespace trainer {
namespace {

StepReport report(std::int64_t step) {
  StepReport report;
  report.step = step;
  report.epoch = 0.5;
  report.images = 16 * step;
  report.loss = 0.75;
  report.losses = {{"loss_classification", 0.5}, {"loss_bbox_regression", 0.25}};
  report.lr = 0.01;
  report.l2_penalty = 1.5;
  report.grad_norm = 2;
  report.images_per_second = 8;
  report.seconds.data = 0.125;
  report.seconds.total = 2;
  report.eta_seconds = 120;
  report.memory_bytes = 5'000'000'000;
  return report;
}

TEST(MetricsFile, TrainingLineHasTheContractsKeysInOrder) {
  const ScratchFolder folder;
  MetricsFile metrics(folder.path() / "metrics.jsonl");
  EXPECT_TRUE(metrics.training(report(20)));
  EXPECT_EQ(file_text(folder.path() / "metrics.jsonl"),
            R"({"step":20,"epoch":0.5,"images":320,"loss":0.75,"loss_classification":0.5,)"
            R"("loss_bbox_regression":0.25,"lr":0.01,"l2_penalty":1.5,"grad_norm":2.0,)"
            R"("images_per_second":8.0,"data_seconds":0.125,"step_seconds":2.0,)"
            R"("eta_seconds":120.0,"memory_bytes":5000000000})"
            "\n");
}

TEST(MetricsFile, EvaluationLine) {
  const ScratchFolder folder;
  MetricsFile metrics(folder.path() / "metrics.jsonl");
  const std::vector<NamedValue> values = {{"bbox/AP", 0.25}, {"bbox/APs", kUndefined}};
  EXPECT_TRUE(metrics.evaluation(500, "val", values));
  EXPECT_EQ(file_text(folder.path() / "metrics.jsonl"),
            "{\"step\":500,\"split\":\"val\",\"bbox/AP\":0.25,\"bbox/APs\":null}\n");
}

TEST(MetricsFile, UndefinedIsNullAndNamesAreEscaped) {
  const ScratchFolder folder;
  MetricsFile metrics(folder.path() / "metrics.jsonl");
  StepReport step = report(1);
  step.loss = NAN;
  step.grad_norm = -INFINITY;
  step.extra = {{"group/\"a\"/sparsity", 0.5}};
  EXPECT_TRUE(metrics.training(step));
  const std::string text = file_text(folder.path() / "metrics.jsonl");
  EXPECT_NE(text.find("\"loss\":null,"), std::string::npos);
  EXPECT_NE(text.find("\"grad_norm\":null,"), std::string::npos);
  EXPECT_NE(text.find(R"(,"group/\"a\"/sparsity":0.5})"), std::string::npos) << text;
}

TEST(MetricsFile, ValuesComeBackExactly) {
  const ScratchFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  MetricsFile metrics(path);
  StepReport step = report(20);
  step.loss = 0.1 + 0.2;
  step.grad_norm = NAN;
  metrics.training(step);
  metrics.evaluation(20, "val", std::vector<NamedValue>{{"bbox/AP", 1.0 / 3}});
  const std::vector<MetricsLine> lines = read_metrics(path);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].step, 20);
  EXPECT_EQ(lines[0].split, "");
  EXPECT_EQ(lines[0].values.at("loss"), 0.1 + 0.2);
  EXPECT_EQ(lines[0].values.count("grad_norm"), 0u);
  EXPECT_EQ(lines[1].split, "val");
  EXPECT_EQ(lines[1].values.at("bbox/AP"), 1.0 / 3);
}

TEST(MetricsFile, CutBackKeepsTheCheckpointsStep) {
  const ScratchFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  MetricsFile metrics(path);
  for (const int step : {20, 40, 60}) metrics.training(report(step));
  metrics.evaluation(40, "val", std::vector<NamedValue>{{"bbox/AP", 0.5}});
  metrics.cut_back(40);
  metrics.training(report(60));  // goes to the new file, not to the one renamed away
  std::vector<std::int64_t> steps;
  for (const MetricsLine& line : read_metrics(path)) steps.push_back(line.step);
  EXPECT_EQ(steps, (std::vector<std::int64_t>{20, 40, 40, 60}));
  metrics.cut_back(0);
  EXPECT_EQ(file_text(path), "");
}

TEST(MetricsFile, CutBackRemovesATornLine) {
  const ScratchFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  MetricsFile metrics(path);
  metrics.training(report(20));
  const std::string whole = file_text(path);
  std::ofstream(path, std::ios::app) << R"({"step":30,"lo)";
  EXPECT_EQ(read_metrics(path).size(), 1u);
  metrics.cut_back(100);
  EXPECT_EQ(file_text(path), whole);
}

TEST(MetricsFile, CutBackToleratesWhatIsNotOurs) {
  const ScratchFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  MetricsFile metrics(path);
  EXPECT_NO_THROW(metrics.cut_back(10)) << "no file yet";
  EXPECT_FALSE(std::filesystem::exists(path));
  std::ofstream(path) << "\n[1]\nnull\n{\"step\":\"a\"}\n{\"step\":5}\n\xff\n";
  metrics.cut_back(10);
  EXPECT_EQ(file_text(path), "{\"step\":5}\n");
}

TEST(MetricsFile, FullDiskLosesALineNotTheRun) {
  MetricsFile metrics("/dev/full");
  EXPECT_FALSE(metrics.training(report(1)));
  EXPECT_EQ(metrics.file().num_lost(), 1);
}

TEST(MetricsFile, UnreadableIsAnError) {
  const ScratchFolder folder;
  EXPECT_THROW(read_metrics(folder.path()), comm::Error) << "a folder";
}

}  // namespace
}  // namespace trainer
