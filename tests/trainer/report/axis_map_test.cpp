#include "trainer/report/axis_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace trainer {
namespace {

std::vector<std::string> labels(const AxisMap& axis) {
  std::vector<std::string> labels;
  for (const Tick& tick : axis.ticks())
    if (!tick.label.empty()) labels.push_back(tick.label);
  return labels;
}

AxisMap axis_of(Scale scale, double low, double high) {
  return AxisMap({.label = "", .scale = scale, .low = low, .high = high}, {}, 0);
}

using Strings = std::vector<std::string>;

TEST(AxisMap, LinearTicksAreRound) {
  EXPECT_EQ(labels(axis_of(Scale::kLinear, 0, 1)),
            (Strings{"0", "0.2", "0.4", "0.6", "0.8", "1.0"}));
  EXPECT_EQ(labels(axis_of(Scale::kLinear, 0, 30000)),
            (Strings{"0", "5,000", "10,000", "15,000", "20,000", "25,000", "30,000"}));
  EXPECT_EQ(labels(axis_of(Scale::kLinear, -1.3, 1.2)),
            (Strings{"-1.0", "-0.5", "0", "0.5", "1.0"}));
  EXPECT_EQ(labels(axis_of(Scale::kLinear, 0, 3e-5)),
            (Strings{"0", "5e-6", "1e-5", "1.5e-5", "2e-5", "2.5e-5", "3e-5"}));
  EXPECT_EQ(labels(axis_of(Scale::kLinear, 0, 3e6)),
            (Strings{"0", "500,000", "1M", "1.5M", "2M", "2.5M", "3M"}));
}

TEST(AxisMap, LogTicksAreDecades) {
  EXPECT_EQ(labels(axis_of(Scale::kLog, 1e-3, 1e1)),
            (Strings{"10⁻³", "10⁻²", "10⁻¹", "10⁰", "10¹"}));
  const Strings every_second = {"10⁻¹²", "10⁻¹⁰", "10⁻⁸", "10⁻⁶", "10⁻⁴", "10⁻²", "10⁰"};
  EXPECT_EQ(labels(axis_of(Scale::kLog, 1e-12, 1)), every_second);
}

TEST(AxisMap, ShortLogAxesGetPlainNumbers) {
  EXPECT_EQ(labels(axis_of(Scale::kLog, 0.1, 3)), (Strings{"0.1", "0.2", "0.5", "1", "2"}));
  EXPECT_GE(labels(axis_of(Scale::kLog, 0.51, 0.59)).size(), 2u) << "less than a digit";
}

TEST(AxisMap, EveryRangeHasAFewTicksInside) {
  for (const Scale scale : {Scale::kLinear, Scale::kLog})
    for (double low = 1e-12; low < 1e12; low *= 7.3)
      for (double factor : {1.0001, 1.3, 4.0, 99.0, 1e5, 1e20}) {
        const AxisMap axis = axis_of(scale, low, low * factor);
        const Strings all = labels(axis);
        EXPECT_GE(all.size(), 2u) << low << " " << factor;
        EXPECT_LE(all.size(), 9u) << low << " " << factor;
        for (const Tick& tick : axis.ticks()) {
          const double slack = 1e-5 * (scale == Scale::kLinear ? low * factor : tick.value);
          EXPECT_GE(tick.value, low - slack);
          EXPECT_LE(tick.value, low * factor + slack);
        }
      }
}

TEST(AxisMap, EndsComeFromUsableData) {
  const std::vector<double> values = {NAN, 5, INFINITY, 10, -3, 0};
  const AxisMap log({.label = "", .scale = Scale::kLog}, values, 0);
  EXPECT_DOUBLE_EQ(log.low(), 5);
  EXPECT_DOUBLE_EQ(log.high(), 10);
  EXPECT_FALSE(log.usable(0));
  const AxisMap linear({}, values, 0);
  EXPECT_DOUBLE_EQ(linear.low(), -3);
  EXPECT_TRUE(linear.usable(0));
}

TEST(FormatTick, HasTheDigitsOfTheStep) {
  EXPECT_EQ(format_tick(0.30000000000000004, 0.1), "0.3");
  EXPECT_EQ(format_tick(1, 0.25), "1.0");
  EXPECT_EQ(format_tick(-0.0, 0.1), "0");
  EXPECT_EQ(format_tick(1234567, 1), "1.23457M");
  EXPECT_EQ(format_tick(2.5e-7, 5e-8), "2.5e-7");
  EXPECT_EQ(format_tick(3e20, 1e20), "3e20");
}

TEST(AxisMap, NearZeroStartsAtZero) {
  EXPECT_EQ(AxisMap({}, std::vector<double>{0.1, 2}, 0.05).low(), 0);
  EXPECT_NEAR(AxisMap({}, std::vector<double>{1.9, 2}, 0.05).low(), 1.895, 1e-9);
}

TEST(AxisMap, DegenerateRangesStillMap) {
  for (const Scale scale : {Scale::kLinear, Scale::kLog})
    for (const std::vector<double>& values :
         {std::vector<double>{}, std::vector<double>{NAN}, std::vector<double>{3, 3},
          std::vector<double>{0, 0}}) {
      AxisMap axis({.label = "", .scale = scale}, values, 0.05);
      axis.place(0, 100);
      EXPECT_LT(axis.low(), axis.high());
      EXPECT_FALSE(axis.ticks().empty());
      EXPECT_TRUE(std::isfinite(axis.pixel(3)));
    }
}

TEST(AxisMap, PixelsFollowTheScale) {
  AxisMap log = axis_of(Scale::kLog, 1, 100);
  log.place(200, 0);
  EXPECT_DOUBLE_EQ(log.pixel(1), 200);
  EXPECT_DOUBLE_EQ(log.pixel(10), 100);
  AxisMap linear = axis_of(Scale::kLinear, 0, 4);
  linear.place(0, 200);
  EXPECT_DOUBLE_EQ(linear.pixel(1), 50);
}

}  // namespace
}  // namespace trainer
