#include "trainer/data/anomalies.h"

#include <gtest/gtest.h>

#include "tests/trainer/data/temp_data.h"

namespace trainer {
namespace {

TEST(Quoted, EscapesControlsAndBrokenUtf8) {
  EXPECT_EQ(trainer::quoted(std::string("a\x1b[2J\n")), "'a\\x1b[2J\\x0a'");
  EXPECT_EQ(trainer::quoted(std::string("caf\xc3\xa9")), "'caf\xc3\xa9'");
  EXPECT_EQ(trainer::quoted(std::string("\xc3")), "'\\xc3'");
  EXPECT_EQ(trainer::quoted(std::string("\xc2\x9b")), "'\\xc2\\x9b'");  // CSI of 8-bit terminals
  EXPECT_EQ(trainer::quoted(std::string("it's")), "'it\\'s'");
  EXPECT_EQ(trainer::quoted(std::string(300, 'x')).size(), 200u + 5u);
}

TEST(AnomalyReport, CountsAllAndNamesTheFirst) {
  AnomalyReport report;
  EXPECT_TRUE(report.empty());
  for (int i = 0; i < 50; ++i) report.add(AnomalyKind::kCrowd, std::to_string(i), "");
  EXPECT_EQ(report.count(AnomalyKind::kCrowd), 50);
  EXPECT_EQ(report.named().size(), 20u);
  EXPECT_EQ(report.num_errors(), 0);
  AnomalyReport other;
  other.add(AnomalyKind::kCrowd, "other", "");
  other.add(AnomalyKind::kUnknownId, "other", "");
  report.merge(other);
  EXPECT_EQ(report.count(AnomalyKind::kCrowd), 51);
  EXPECT_EQ(report.named().size(), 21u);
  EXPECT_EQ(report.num_errors(), 1);
}

TEST(AnomalyReport, RepairsNeverStop) {
  AnomalyReport report;
  for (const auto kind : {AnomalyKind::kBoxClipped, AnomalyKind::kBoxWithoutArea,
                          AnomalyKind::kCrowd, AnomalyKind::kUnusedLabel})
    report.add(kind, "a", "b");
  EXPECT_NO_THROW(report.enforce(false, 0, "set"));
}

TEST(AnomalyReport, StopNamesTheFirstAndCountsTheRest) {
  AnomalyReport report;
  report.add(AnomalyKind::kBoxClipped, "clipped.jpg", "box");
  report.add(AnomalyKind::kMissingFile, "gone.jpg", "no file");
  report.add(AnomalyKind::kUnknownId, "b", "c");
  const Thrown thrown = thrown_by([&] { report.enforce(false, 100, "set.json"); });
  EXPECT_EQ(thrown.code, 66);
  EXPECT_NE(thrown.message.find("set.json: gone.jpg: missing file: no file (and 1 more"),
            std::string::npos)
      << thrown.message;
}

TEST(AnomalyReport, SkipAllowsUpToTheLimit) {
  AnomalyReport report;
  for (int i = 0; i < 3; ++i) report.add(AnomalyKind::kUndecodable, "x", "y");
  EXPECT_NO_THROW(report.enforce(true, 3, "set"));
  EXPECT_EQ(thrown_by([&] { report.enforce(true, 2, "set"); }).code, 65);
}

}  // namespace
}  // namespace trainer
