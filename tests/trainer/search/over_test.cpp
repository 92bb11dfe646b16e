#include "trainer/search/over.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "comm/error.h"

namespace trainer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Over, ALogRangeHasItsEndsAndEqualRatios) {
  const Over over = parse_over("regularization.l2=1e-6..1e-1:log:11");
  EXPECT_EQ(over.key, "regularization.l2");
  EXPECT_EQ(over.scale, Scale::kLog);
  const auto values = grid_values(over);
  ASSERT_EQ(values.size(), 11u);
  EXPECT_EQ(values.front(), "1e-06");
  EXPECT_EQ(values.back(), "0.1");
  EXPECT_EQ(values[1], "3.16228e-06");  // 10^-5.5
  for (std::size_t i = 1; i < values.size(); ++i)
    EXPECT_NEAR(*as_number(values[i]) / *as_number(values[i - 1]), std::sqrt(10.0), 1e-4);
}

TEST(Over, ALinearRangeHasEqualDistances) {
  EXPECT_THAT(grid_values(parse_over("model.dropout=0..0.5:linear:3")),
              ElementsAre("0", "0.25", "0.5"));
  EXPECT_THAT(grid_values(parse_over("model.dropout=-1..1:linear:2")), ElementsAre("-1", "1"));
}

TEST(Over, WholeNumbersAreRoundedAndStandOnce) {
  const Over over = parse_over("train.batch=1..4:linear:7");
  EXPECT_TRUE(over.integer);
  EXPECT_THAT(grid_values(over), ElementsAre("1", "2", "3", "4"));
}

TEST(Over, AListIsTakenAsWritten) {
  const Over over = parse_over("regularization.convention=half,full");
  EXPECT_THAT(grid_values(over), ElementsAre("half", "full"));
  EXPECT_THAT(grid_values(parse_over("data.size=[64,64],[96,96]")),
              ElementsAre("[64,64]", "[96,96]"));
  EXPECT_THAT(grid_values(parse_over("regularization.l2=0,0.01,0.1,1")),
              ElementsAre("0", "0.01", "0.1", "1"));
}

TEST(Over, DrawsAreUniformOnTheirScale) {
  const Over log = parse_over("regularization.l2=1e-4..1:log");
  EXPECT_EQ(value_at(log, 0), "0.0001");
  EXPECT_EQ(value_at(log, 0.5), "0.01");
  const Over linear = parse_over("optimizer.momentum=0..0.8:linear");
  EXPECT_EQ(value_at(linear, 0.5), "0.4");
  const Over list = parse_over("optimizer.name=sgd,adam");
  EXPECT_EQ(value_at(list, 0.49), "sgd");
  EXPECT_EQ(value_at(list, 0.99999), "adam");
}

TEST(Over, AMistakeIsUsageAndNamed) {
  const auto message = [](const std::string& text) -> std::string {
    try {
      parse_over(text);
    } catch (const comm::Error& error) {
      EXPECT_EQ(error.code(), comm::ExitCode::kUsage) << text;
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(message("regularization.l2"), HasSubstr("no KEY="));
  EXPECT_THAT(message("=1..2:log:3"), HasSubstr("no KEY="));
  EXPECT_THAT(message("a.b=1..2"), HasSubstr("scale"));
  EXPECT_THAT(message("a.b=1..2:cubic:3"), HasSubstr("'cubic'"));
  EXPECT_THAT(message("a.b=0..2:log:3"), HasSubstr("above 0"));
  EXPECT_THAT(message("a.b=2..1:log:3"), HasSubstr("less than HIGH"));
  EXPECT_THAT(message("a.b=x..1:log:3"), HasSubstr("LOW is 'x'"));
  EXPECT_THAT(message("a.b=1..:log:3"), HasSubstr("HIGH is ''"));
  EXPECT_THAT(message("a.b=1..nan:log:3"), HasSubstr("HIGH"));
  for (const char* count : {"1", "0", "-3", "2.5", "", "1e9"})
    EXPECT_THAT(message(std::string("a.b=1..2:log:") + count), HasSubstr("COUNT")) << count;
  EXPECT_THAT(message("a.b=5"), HasSubstr("no choice"));
  EXPECT_THAT(message("a.b=5,,6"), HasSubstr("empty"));
  EXPECT_THAT(message("a.b=5,6,5"), HasSubstr("twice"));
  EXPECT_THAT(message("train.seed=1..5:linear:5"), HasSubstr("--seeds"));
  EXPECT_EQ(message("a.b=\x1b,1..2").find('\x1b'), std::string::npos);
}

TEST(Over, OnlyRegularizersRegularize) {
  EXPECT_TRUE(is_regularizer("regularization.l2"));
  EXPECT_TRUE(is_regularizer("model.dropout"));
  EXPECT_FALSE(is_regularizer("optimizer.lr"));
}

}  // namespace
}  // namespace trainer
