#include "trainer/eval/voc_eval.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <stdexcept>

#include "tests/trainer/eval/oracle.h"

namespace trainer {
namespace {

constexpr std::array<double, 4> kHere = {10, 10, 19, 19};
constexpr std::array<double, 4> kThere = {50, 50, 59, 59};

double ap(const std::vector<VocObject>& objects, const std::vector<VocDetection>& detections,
          VocAp kind = VocAp::kAllPoints) {
  return evaluate_voc(objects, detections, {1, 0.5, kind}).mean_ap;
}

TEST(VocEval, FirstWrongThenRight) {
  const std::vector<VocObject> objects = {{1, 0, kHere}, {1, 0, kThere}};
  const std::vector<VocDetection> detections = {{1, 0, {0, 0, 5, 5}, .9}, {1, 0, kHere, .8}};
  EXPECT_DOUBLE_EQ(ap(objects, detections), 0.5 * 0.5);  // recall 1/2 at precision 1/2
  EXPECT_DOUBLE_EQ(ap(objects, detections, VocAp::kElevenPoints), 6 * 0.5 / 11);
}

TEST(VocEval, SecondDetectionOfAnObjectIsWrong) {
  const std::vector<VocObject> objects = {{1, 0, kHere}, {2, 0, kHere}};
  EXPECT_DOUBLE_EQ(ap(objects, {{1, 0, kHere, .9}, {1, 0, kHere, .8}, {2, 0, kHere, .7}}),
                   0.5 + 0.5 * 2 / 3);
}

TEST(VocEval, DifficultObjectsAreNeitherFoundNorMissed) {
  const std::vector<VocObject> objects = {{1, 0, kHere, true}, {1, 0, kThere}};
  EXPECT_EQ(ap(objects, {{1, 0, kHere, .9}, {1, 0, kHere, .8}, {1, 0, kThere, .7}}), 1.0);
  EXPECT_TRUE(std::isnan(ap({{1, 0, kHere, true}}, {{1, 0, kHere, .9}})));
}

TEST(VocEval, CornersAreInclusive) {
  // 10 x 10 pixels and 10 x 5 of them: IoU exactly 1/2.
  EXPECT_EQ(ap({{1, 0, kHere}}, {{1, 0, {10, 10, 19, 14}, .9}}), 1.0);
  EXPECT_EQ(ap({{1, 0, kHere}}, {{1, 0, {10, 10, 19, 13}, .9}}), 0.0);
}

TEST(VocEval, EqualScoresRankInInputOrder) {
  const std::vector<VocObject> objects = {{1, 0, kHere}};
  EXPECT_EQ(ap(objects, {{1, 0, kHere, .5}, {1, 0, kThere, .5}}), 1.0);
  EXPECT_EQ(ap(objects, {{1, 0, kThere, .5}, {1, 0, kHere, .5}}), 0.5);
}

TEST(VocEval, ClassesWithoutObjectsAreUndefined) {
  const std::vector<VocObject> objects = {{1, 1, kHere}};
  const std::vector<VocDetection> detections = {{1, 0, kHere, .9}, {1, 1, kHere, .9}};
  const VocResult result = evaluate_voc(objects, detections, {3});
  EXPECT_TRUE(std::isnan(result.ap[0]));
  EXPECT_EQ(result.ap[1], 1.0);
  EXPECT_TRUE(std::isnan(result.ap[2]));
  EXPECT_EQ(result.mean_ap, 1.0);
  const std::vector<std::string> names = {"a", "b", "c"};
  EXPECT_EQ(voc_metrics(result, names).per_class[1].first, "b");
  EXPECT_THROW(voc_metrics(result, std::span(names).first(2)), std::invalid_argument);
  EXPECT_TRUE(std::isnan(evaluate_voc({}, {}, {2}).mean_ap));
}

TEST(VocEval, RefusesUnknownCategories) {
  EXPECT_THROW(ap({{1, 1, kHere}}, {}), std::invalid_argument);
  EXPECT_THROW(ap({}, {{1, -1, kHere, .5}}), std::invalid_argument);
}

struct Case {
  std::vector<VocObject> objects;
  std::vector<VocDetection> detections;
};

// Files of lines "class [score] x y width height".
Case read_case(const std::filesystem::path& dir) {
  Case result;
  for (int image = 1; image <= 7; ++image) {
    const std::string name = "0000" + std::to_string(image) + ".txt";
    std::string category;
    double score = 0, x = 0, y = 0, w = 0, h = 0;
    std::ifstream truth(dir / "gts" / name), found(dir / "dets" / name);
    while (truth >> category >> x >> y >> w >> h) {
      result.objects.push_back({image, 0, {x, y, x + w, y + h}});
    }
    while (found >> category >> score >> x >> y >> w >> h) {
      result.detections.push_back({image, 0, {x, y, x + w, y + h}, score});
    }
  }
  return result;
}

TEST(VocEval, PublishedCase) {
  SKIP_WITHOUT_ORACLE();
  const Case data = read_case(oracle_dir() / "review_metrics/voc_case_1");
  ASSERT_EQ(data.objects.size(), 15u);
  ASSERT_EQ(data.detections.size(), 24u);
  const rapidjson::Document published = read_json(oracle_dir() / "published.json");
  const rapidjson::Value& expected = published["review_metrics_voc"];
  const auto check = [&](const char* key, VocAp kind) {
    for (const auto& [threshold, value] : expected[key].GetObject()) {
      const VocOptions options = {1, std::stod(threshold.GetString()), kind};
      EXPECT_NEAR(evaluate_voc(data.objects, data.detections, options).mean_ap, value.GetDouble(),
                  1e-9)
          << key << " at IoU " << threshold.GetString();
    }
  };
  check("voc_11_point", VocAp::kElevenPoints);
  check("voc_every_point", VocAp::kAllPoints);
}

}  // namespace
}  // namespace trainer
