#include "trainer/report/text_table.h"

#include <gtest/gtest.h>

#include "comm/error.h"

namespace trainer {
namespace {

TEST(TextTable, AlignsColumnsAndTotals) {
  TextTable table({{"name"}, {"count", Align::kRight}, {"l2"}});
  table.row({"conv1.weight", "9,408", "1e-4"});
  table.row({"bn1.bias", "64"});
  table.total({"total", "9,472"});
  EXPECT_EQ(table.text(),
            "name          count  l2\n"
            "------------  -----  ----\n"
            "conv1.weight  9,408  1e-4\n"
            "bn1.bias         64\n"
            "------------  -----  ----\n"
            "total         9,472\n");
}

TEST(TextTable, WidthsCountCodePoints) {
  TextTable table({{"\u03bb"}, {"b"}});
  table.row({"\u00e9\u00e9", "x"});
  EXPECT_EQ(table.text(), "\u03bb   b\n--  -\n\u00e9\u00e9  x\n");
}

TEST(TextTable, CellsCannotBreakTheTable) {
  TextTable table({{"a"}});
  table.row({"x\ny\tz\x1b"});
  EXPECT_EQ(table.text(), "a\n---------\nx y z\\x1b\n");
}

TEST(TextTable, EmptyTableHasItsTitles) {
  TextTable table({{"a"}, {"b", Align::kRight}});
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(table.text(), "a  b\n-  -\n");
}

TEST(TextTable, ContractsAreChecked) {
  EXPECT_THROW(TextTable({}), comm::Error);
  EXPECT_THROW(TextTable({{"a"}}).row({"1", "2"}), comm::Error);
}

TEST(FormatCount, GroupsThousands) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1,000");
  EXPECT_EQ(format_count(34014999), "34,014,999");
  EXPECT_EQ(format_count(-123456), "-123,456");
}

}  // namespace
}  // namespace trainer
