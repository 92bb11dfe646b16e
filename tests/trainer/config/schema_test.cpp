#include "trainer/config/schema.h"

#include <fmt/format.h>

#include <cmath>
#include <set>

#include "tests/trainer/config/config_testing.h"

// Every key of the schema, mutated: the table itself generates the cases.
namespace trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

struct Case {
  std::string key;
  std::string type;
  Limits limits;
};

// Rules cannot be written as nested maps and are mutated by RuleSchema below.
std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const Row<Config>& row : schema()) cases.push_back({row.key, row.type, row.info.limits});
  for (const Row<SplitConfig>& row : split_schema())
    cases.push_back({"data.val." + row.key, row.type, row.info.limits});
  return cases;
}

std::string at(const Case& c) { return fmt::format("t.yaml:{}: {}: ", depth(c.key), c.key); }

// A value of the case's type in which one number is `number`.
std::string with_number(const Case& c, double number) {
  const std::string text = fmt::format("{:.17g}", number);
  if (c.type.starts_with("[H, W]")) return "[" + text + ", 64]";
  if (!c.type.starts_with("list")) return text;
  std::string list = text;
  for (size_t i = 1; i < c.limits.min_items; ++i) list += ", " + text;
  return "[" + list + "]";
}

class EveryKey : public testing::TestWithParam<Case> {};

TEST_P(EveryKey, MisspeltIsRefusedWithTheRightOne) {
  const Case& c = GetParam();
  const std::string wrong = c.key + c.key.back();
  EXPECT_EQ(
      error_of(nested(wrong, "1")),
      fmt::format("t.yaml:{}: {}: unknown key; did you mean '{}'", depth(c.key), wrong, c.key));
}

TEST_P(EveryKey, DuplicateIsRefused) {
  const Case& c = GetParam();
  const std::string text = nested(c.key, "1");
  const size_t last = text.rfind('\n', text.size() - 2);
  const std::string line = text.substr(last == std::string::npos ? 0 : last + 1);
  EXPECT_EQ(error_of(text + line),
            fmt::format("t.yaml:{}: {}: given twice, first at t.yaml:{}; remove one",
                        depth(c.key) + 1, c.key, depth(c.key)));
}

TEST_P(EveryKey, WrongTypeIsRefused) {
  const Case& c = GetParam();
  EXPECT_THAT(error_of(nested(c.key, "{surprise: 1}")),
              AllOf(StartsWith(at(c)), HasSubstr("got a map")));
  const bool is_list = c.type.starts_with("list") || c.type.starts_with("[");
  EXPECT_THAT(error_of(nested(c.key, is_list ? "surprise" : "[surprise]")), StartsWith(at(c)));
  if (c.type != "text") {
    EXPECT_THAT(error_of(nested(c.key, "surprise")), StartsWith(at(c)));
  }
}

TEST_P(EveryKey, OutOfRangeIsRefused) {
  const Case& c = GetParam();
  if (c.type.find("integer") != std::string::npos || c.type.find("number") != std::string::npos) {
    ASSERT_TRUE(std::isfinite(c.limits.low)) << "a number without a lower bound";
    ASSERT_TRUE(std::isfinite(c.limits.high)) << "a number without an upper bound";
  }
  if (std::isfinite(c.limits.low)) {
    EXPECT_THAT(error_of(nested(c.key, with_number(c, c.limits.low - 1))), StartsWith(at(c)));
  }
  if (std::isfinite(c.limits.high)) {
    EXPECT_THAT(error_of(nested(c.key, with_number(c, c.limits.high * 2 + 1))), StartsWith(at(c)));
  }
  if (c.type.find("text") != std::string::npos) return;
  for (const char* odd : {".nan", ".inf", "-.inf", "nan", "1e999", "010", "0x10", "1_000"})
    EXPECT_THAT(error_of(nested(c.key, odd)), StartsWith(at(c))) << odd;
}

INSTANTIATE_TEST_SUITE_P(Schema, EveryKey, testing::ValuesIn(all_cases()), [](const auto& info) {
  std::string name = info.param.key;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
});

TEST(RuleSchema, EveryKeyIsChecked) {
  for (const Row<Rule>& row : rule_schema()) {
    const bool in_match = row.key.starts_with("match.");
    const std::string leaf = in_match ? row.key.substr(6) : row.key;
    const auto error = [&](const std::string& key, const std::string& value) {
      const std::string pair = key + ": " + value;
      const std::string rule = in_match ? "{match: {" + pair + "}}" : "{match: {}, " + pair + "}";
      return error_of("regularization:\n  rules:\n    - " + rule + "\n");
    };
    const std::string path = "regularization.rules[0].";
    EXPECT_THAT(
        error(leaf + leaf.back(), "1"),
        AllOf(StartsWith("t.yaml:3: " + path), HasSubstr("did you mean '" + path + row.key + "'")));
    EXPECT_THAT(error(leaf, "{a: 1}"), StartsWith("t.yaml:3: " + path + row.key));
    if (std::isfinite(row.info.limits.low)) {
      EXPECT_THAT(error(leaf, "-1"), HasSubstr("must be"));
    }
  }
}

TEST(Schema, KeysAreUniqueAndDescribed) {
  std::set<std::string> keys;
  for (const Row<Config>& row : schema()) {
    EXPECT_TRUE(keys.insert(row.key).second) << row.key;
    EXPECT_GE(row.info.meaning.size(), 8u) << row.key;
    EXPECT_THAT(keys_text(), HasSubstr(row.key + ": " + row.type));
    EXPECT_THAT(keys_text(), HasSubstr(row.info.meaning));
  }
}

TEST(Schema, SectionsAreContiguous) {  // the printer opens each section once
  std::set<std::string> closed;
  std::string open;
  for (const Row<Config>& row : schema()) {
    const std::string section = row.key.substr(0, row.key.find('.'));
    if (section == open) continue;
    EXPECT_TRUE(closed.insert(section).second) << section;
    open = section;
  }
}

}  // namespace
}  // namespace trainer
