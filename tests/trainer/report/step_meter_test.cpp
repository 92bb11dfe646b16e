#include "trainer/report/step_meter.h"

#include <gtest/gtest.h>

#include <cmath>

#include "comm/error.h"

namespace trainer {
namespace {

StepReport report(std::int64_t step, double loss) {
  StepReport report;
  report.step = step;
  report.epoch = 0.25 * static_cast<double>(step);
  report.loss = loss;
  report.losses = {{"loss_classification", 0.75 * loss}, {"loss_bbox_regression", 0.25 * loss}};
  report.lr = 0.01;
  report.seconds = {
      .data = 0.02, .compute = 1.6, .communication = 0.24, .update = 0.14, .total = 2};
  report.memory_bytes = 1490000000;
  return report;
}

TEST(MedianWindow, KeepsTheLastTwenty) {
  MedianWindow window;
  EXPECT_TRUE(std::isnan(window.median()));
  window.add(5);
  EXPECT_EQ(window.median(), 5);
  window.add(1);
  EXPECT_EQ(window.median(), 3);
  for (int i = 0; i < 20; ++i) window.add(i);
  EXPECT_EQ(window.median(), 9.5);
  window.add(1e9);  // an outlier does not move it far
  EXPECT_EQ(window.median(), 10.5);
}

TEST(MedianWindow, UndefinedValuesAreLeftOut) {
  MedianWindow window;
  window.add(NAN);
  window.add(INFINITY);
  window.add(2);
  EXPECT_EQ(window.median(), 2);
}

TEST(StepMeter, FillsInSpeedAndEta) {
  StepMeter meter(100, 16);
  StepReport step = report(40, 1);
  meter.observe(step);
  EXPECT_DOUBLE_EQ(step.images_per_second, 8);
  EXPECT_DOUBLE_EQ(step.eta_seconds, 120);
}

TEST(StepMeter, NoTimeNoSpeed) {
  StepMeter meter(100, 16);
  StepReport step = report(1, 1);
  step.seconds = {};
  meter.observe(step);
  EXPECT_TRUE(std::isnan(step.images_per_second));
  EXPECT_NE(meter.line().find("  - images/s  0 s  "), std::string::npos) << meter.line();
}

TEST(StepMeter, LineIsSmoothed) {
  StepMeter meter(3338, 16);
  for (int i = 1; i <= 30; ++i) {
    StepReport step = report(i, i == 30 ? 1000 : 0.5);
    meter.observe(step);
    EXPECT_EQ(step.loss, i == 30 ? 1000 : 0.5) << "the report itself is not smoothed";
  }
  EXPECT_EQ(meter.line(),
            "step 30/3338  epoch 7.50  loss 0.5 (classification 0.375, bbox_regression 0.125)  "
            "lr 0.01  8 images/s  2 s (data 1%, compute 80%, communication 12%, update 7%)  "
            "1.39 GiB  eta 1:50:16");
}

TEST(StepMeter, AnotherSetOfLossesStartsAnew) {
  StepMeter meter(10, 1);
  StepReport step = report(1, 1);
  meter.observe(step);
  step.losses = {{"loss_out", 2}};
  meter.observe(step);
  EXPECT_NE(meter.line().find("loss 1 (out 2)  lr"), std::string::npos) << meter.line();
  step.losses.clear();
  meter.observe(step);
  EXPECT_NE(meter.line().find("loss 1  lr"), std::string::npos) << meter.line();
}

TEST(StepMeter, BarShrinksToTheTerminal) {
  StepMeter meter(100, 16);
  StepReport step = report(50, 0.5);
  meter.observe(step);
  EXPECT_EQ(meter.bar(200), "[" + std::string(15, '#') + std::string(15, '-') +
                                "] 50%  step 50/100  loss 0.5  8 images/s  eta 0:01:40");
  EXPECT_EQ(meter.bar(70).size(), 70u);
  EXPECT_EQ(meter.bar(58), "50%  step 50/100  loss 0.5  8 images/s  eta 0:01:40");
  EXPECT_EQ(meter.bar(10), "50%  step ");
  EXPECT_EQ(meter.bar(0), "");
}

TEST(StepMeter, BeyondTheEndIsFull) {
  StepMeter meter(10, 1);
  StepReport step = report(12, 1);
  meter.observe(step);
  EXPECT_EQ(step.eta_seconds, 0);
  EXPECT_NE(meter.bar(200).find("##] 100%"), std::string::npos);
}

TEST(StepMeter, ContractsAreChecked) {
  EXPECT_THROW(StepMeter(0, 16), comm::Error);
  EXPECT_THROW(StepMeter(10, 0), comm::Error);
  EXPECT_THROW(StepMeter(10, 1).line(), comm::Error);
}

TEST(Format, Duration) {
  EXPECT_EQ(format_duration(0), "0:00:00");
  EXPECT_EQ(format_duration(59.6), "0:01:00");
  EXPECT_EQ(format_duration(754), "0:12:34");
  EXPECT_EQ(format_duration(2 * 86400 + 3 * 3600 + 245), "2 d 3:04:05");
  EXPECT_EQ(format_duration(NAN), "-");
  EXPECT_EQ(format_duration(-1), "-");
  EXPECT_EQ(format_duration(INFINITY), "-");
}

TEST(Format, Bytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_bytes(1023 * 1024), "1.00 MiB");
  EXPECT_EQ(format_bytes(std::int64_t{16} << 30), "16.0 GiB");
  EXPECT_EQ(format_bytes(std::int64_t{400} << 40), "400 TiB");
}

}  // namespace
}  // namespace trainer
