#include <cstdlib>

#include "tests/trainer/config/config_testing.h"

// What yaml-cpp accepts silently and a configuration must not.
namespace trainer {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(YamlTraps, SecondDocument) {
  EXPECT_THAT(error_of("train: {epochs: 1}\n---\ntrain: {epochs: 2}\n"),
              AllOf(StartsWith("t.yaml:3: "), HasSubstr("second document")));
}

TEST(YamlTraps, AnchorsAliasesTagsAndMergeKeys) {
  EXPECT_THAT(error_of("train: &a {epochs: 1}\n"), StartsWith("t.yaml:1: anchor"));
  EXPECT_THAT(error_of("train: {epochs: 1}\ndata: *a\n"), StartsWith("t.yaml:2: "));
  EXPECT_THAT(error_of("train: {epochs: !!int 1}\n"), StartsWith("t.yaml:1: tag"));
  EXPECT_THAT(error_of("train: !mine {epochs: 1}\n"), StartsWith("t.yaml:1: tag"));
  EXPECT_THAT(error_of("train:\n  <<: {epochs: 1}\n"), StartsWith("t.yaml:2: merge key"));
  EXPECT_THAT(error_of("a: &x [*x]\n"), StartsWith("t.yaml:1: "));
}

TEST(YamlTraps, Integers) {
  const auto batch = [](const std::string& text) {
    return parse("train: {epochs: 1, batch: " + text + "}").config.train.batch;
  };
  EXPECT_EQ(batch("1e3"), 1000);
  EXPECT_EQ(batch("1.6e1"), 16);
  EXPECT_EQ(batch("+16"), 16);
  EXPECT_EQ(batch("16.0"), 16);
  for (const char* wrong : {"010", "1.5", "0x10", "'16'", "1e-3", "1e300", "16 images", "", "~",
                            "1__0", "+", "1e", "99999999999"})
    EXPECT_THAT(error_of(std::string("train:\n  batch: ") + wrong + "\n"),
                StartsWith("t.yaml:2: train.batch: "))
        << wrong;
}

TEST(YamlTraps, Numbers) {
  const auto lr = [](const std::string& text) {
    return parse("{train: {epochs: 1}, optimizer: {lr: " + text + "}}").config.optimizer.lr;
  };
  EXPECT_EQ(lr("1.0e-4"), 1e-4);
  EXPECT_EQ(lr(".5"), 0.5);
  EXPECT_EQ(lr("5."), 5);
  EXPECT_EQ(lr("1e-10"), 1e-10);
  for (const char* wrong :
       {".nan", ".inf", "inf", "NaN", "1e999", "1e-999", "00.5", "0,5", "'0.5'"})
    EXPECT_THAT(error_of(std::string("optimizer:\n  lr: ") + wrong + "\n"),
                StartsWith("t.yaml:2: optimizer.lr: "))
        << wrong;
}

TEST(YamlTraps, TruthValuesAndTheNorwayProblem) {
  for (const char* wrong : {"yes", "no", "on", "off", "True", "1", "'true'"})
    EXPECT_THAT(error_of(std::string("data: {shuffle: ") + wrong + "}"),
                HasSubstr("expected true or false"))
        << wrong;
  const Config config = parse("{train: {epochs: 1}, data: {classes: [no, yes, 1]}}").config;
  EXPECT_EQ(config.data.classes, (std::vector<std::string>{"no", "yes", "1"}));
}

TEST(YamlTraps, ShapeOfTheDocument) {
  EXPECT_THAT(error_of(""), HasSubstr("how long?"));
  EXPECT_THAT(error_of("[1, 2]"), HasSubstr("is a map"));
  EXPECT_THAT(error_of("just text"), HasSubstr("is a map"));
  EXPECT_THAT(error_of("train: {epochs: 1\n"), HasSubstr("not YAML"));
  EXPECT_THAT(error_of("? [a]\n: 1\n"), HasSubstr("a key must be a word"));
  EXPECT_THAT(error_of("~: 1\n"), HasSubstr("a key must be a word"));
  EXPECT_THAT(error_of("optimizer:\n"), HasSubstr("expected a map of its keys"));
  EXPECT_THAT(error_of("_base_: x.yaml\n"), HasSubstr("only a file can have bases"));
}

TEST(YamlTraps, SizeDepthAndBytes) {
  EXPECT_THAT(error_of(std::string((1 << 20) + 1, '#')), HasSubstr("1 MiB"));
  for (const int levels : {30, 400, 100000})
    EXPECT_THAT(error_of("a: " + std::string(levels, '[')), HasSubstr("t.yaml"));
  EXPECT_THAT(error_of("data: " + std::string(15, '[') + std::string(15, ']')),
              StartsWith("t.yaml:1: data: "));
  EXPECT_EQ(error_of(std::string("train:\n  epo\0chs: 1\n", 19)),
            "t.yaml:2: control byte 0x00; a configuration is UTF-8 text");
  EXPECT_THAT(error_of("name: \x1b[31m\n"), HasSubstr("control byte 0x1b"));
}

TEST(YamlTraps, MessagesShowNoControlBytes) {
  const std::string error = error_of("model: {name: \"a\\nb\\e\"}\n");
  EXPECT_THAT(error, HasSubstr("'a\\x0ab\\x1b' is not one of retinanet"));
  EXPECT_THAT(error_of("\"a\\nb\": 1\n"), StartsWith("t.yaml:1: 'a\\x0ab': unknown key"));
  EXPECT_LT(error_of("model: {name: " + std::string(5000, 'x') + "}").size(), 300u);
}

// Cut anywhere, a file is either read or refused with a typed error.
TEST(YamlTraps, TruncationAnywhereIsTyped) {
  const std::string text =
      "model: {name: retinanet, anchors: {sizes: [16, 32, 64, 128, 256]}}\n"
      "data:\n  train: {images: \"${HOME:-.}\", annotations: 'a.json'}\n"
      "train: {epochs: 26}\n"
      "regularization:\n  rules:\n    - {match: {name: \"*.weight\", kind: [bias]}, l2: 0}\n";
  for (size_t length = 0; length <= text.size(); ++length) error_of(text.substr(0, length));
  for (size_t i = 0; i < text.size(); ++i)
    for (const char c : {'{', ']', ':', '&', '*', '!', '\'', '\t', '-', '?'}) {
      std::string changed = text;
      changed[i] = c;
      error_of(changed);
    }
}

}  // namespace
}  // namespace trainer
