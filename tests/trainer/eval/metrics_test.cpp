#include "trainer/eval/metrics.h"

#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include <cmath>

#include "trainer/data/metrics_json.h"
#include "trainer/eval/classification_eval.h"

namespace trainer {
namespace {

Metrics example() {
  return {{{"bbox", {{"AP", 0.1}, {"APl", kUndefined}}, {{"a \"cat\"", 0.3}, {"dog", kUndefined}}},
           {"classification", {{"accuracy", 1.0 / 3}, {"loss", 2}}, {}}}};
}

TEST(Metrics, AreFoundByPath) {
  const Metrics metrics = example();
  EXPECT_EQ(*metrics.find("bbox/AP"), 0.1);
  EXPECT_TRUE(std::isnan(*metrics.find("bbox/APl")));
  EXPECT_EQ(*metrics.find("bbox/per_class/a \"cat\""), 0.3);
  EXPECT_EQ(*metrics.find("classification/loss"), 2);
  for (const char* path : {"", "bbox", "bbox/", "AP", "segm/AP", "bbox/ap", "bbox/per_class/cow"}) {
    EXPECT_EQ(metrics.find(path), nullptr) << path;
  }
}

TEST(Metrics, FlatNamesAreFound) {
  const Metrics metrics = example();
  const NamedValues flat = metrics.flat();
  ASSERT_EQ(flat.size(), 4u);
  EXPECT_EQ(flat[0].first, "bbox/AP");
  for (const auto& [name, value] : flat) ASSERT_NE(metrics.find(name), nullptr) << name;
}

TEST(MetricsJson, KeepsEveryBitAndWritesNull) {
  rapidjson::Document json;
  json.Parse<rapidjson::kParseFullPrecisionFlag>(metrics_json(example()).c_str());
  ASSERT_FALSE(json.HasParseError());
  EXPECT_EQ(json["bbox"]["AP"].GetDouble(), 0.1);
  EXPECT_TRUE(json["bbox"]["APl"].IsNull());
  EXPECT_EQ(json["bbox"]["per_class"]["a \"cat\""].GetDouble(), 0.3);
  EXPECT_TRUE(json["bbox"]["per_class"]["dog"].IsNull());
  EXPECT_EQ(json["classification"]["accuracy"].GetDouble(), 1.0 / 3);
  EXPECT_FALSE(json["classification"].HasMember("per_class"));
  EXPECT_EQ(metrics_json({}), "{}\n");
}

TEST(ClassificationSums, ByHand) {
  ClassificationSums sums;
  EXPECT_TRUE(std::isnan(sums.accuracy()));
  EXPECT_TRUE(std::isnan(sums.loss()));
  sums.add(true, 0.5);
  sums.add(false, 2.0);
  sums.add(true, 0.25);
  EXPECT_DOUBLE_EQ(sums.accuracy(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(sums.loss(), 2.75 / 3);
  EXPECT_EQ(sums.metrics().values[1].first, "loss");
}

TEST(ClassificationSums, OrderAndRanksDontMatter) {
  ClassificationSums all, odd, even;
  for (int i = 0; i < 1000; ++i) {
    const double loss = std::exp(std::sin(i * 1.7)) * 3;
    all.add(i % 3 == 0, loss);
    (i % 2 == 0 ? even : odd).add(i % 3 == 0, loss);
  }
  odd.merge(even.counts());
  EXPECT_EQ(odd.loss(), all.loss());
  EXPECT_EQ(odd.accuracy(), all.accuracy());
  EXPECT_EQ(odd.num_samples(), 1000);
}

TEST(ClassificationSums, NonFiniteLossIsUndefined) {
  for (const double loss : {std::nan(""), double{INFINITY}}) {
    ClassificationSums sums;
    sums.add(true, 1);
    sums.add(true, loss);
    EXPECT_TRUE(std::isnan(sums.loss()));
    EXPECT_EQ(sums.accuracy(), 1);
  }
}

}  // namespace
}  // namespace trainer
