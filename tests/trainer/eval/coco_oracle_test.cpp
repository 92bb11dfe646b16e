#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>

#include "tests/trainer/eval/oracle.h"
#include "trainer/data/coco_eval_input.h"

// Every pair of files whose numbers the official COCO API or others published.

namespace trainer {
namespace {

struct Pair {
  std::filesystem::path ground_truth, detections;
  IouType type = IouType::kBox;
  double min_score = 0;
  double tolerance = 1e-9;
};

CocoEvalData read_pair(const Pair& pair) {
  std::vector<CocoDetection> detections = read_coco_detections(pair.detections);
  std::erase_if(detections, [&](const CocoDetection& d) { return d.score < pair.min_score; });
  return coco_eval_data(read_coco_annotations(pair.ground_truth), detections, pair.type);
}

void expect_value(double value, double expected, double tolerance, const std::string& name) {
  if (expected == -1) {
    EXPECT_TRUE(std::isnan(value)) << name << " is " << value << ", not undefined";
  } else {
    EXPECT_NEAR(value, expected, tolerance) << name;
  }
}

void expect_stats(const Pair& pair, const rapidjson::Value& expected) {
  const CocoEvalData data = read_pair(pair);
  const CocoResult result = evaluate_coco(data.input(), pair.type, 2);
  const MetricGroup metrics = coco_metrics(result, "bbox", data.category_names);
  for (const auto& [name, value] : metrics.values) {
    ASSERT_TRUE(expected.HasMember(name.c_str())) << name;
    expect_value(value, expected[name.c_str()].GetDouble(), pair.tolerance, name);
  }
  if (!expected.HasMember("AP_per_category")) return;
  const rapidjson::Value& per_category = expected["AP_per_category"];
  ASSERT_EQ(per_category.MemberCount(), result.per_class.size());
  for (std::size_t c = 0; c < result.per_class.size(); ++c) {
    const std::string id = std::to_string(result.per_class[c].category_id);
    ASSERT_TRUE(per_category.HasMember(id.c_str())) << id;
    expect_value(metrics.per_class[c].second, per_category[id.c_str()].GetDouble(), pair.tolerance,
                 "category " + id);
  }
}

TEST(CocoOracle, OfficialPairs) {
  SKIP_WITHOUT_ORACLE();
  const auto dir = oracle_dir() / "official";
  const rapidjson::Document expected = read_json(dir / "expected.json");
  ASSERT_EQ(expected["pairs"].Size(), 5u);
  for (const rapidjson::Value& pair : expected["pairs"].GetArray()) {
    SCOPED_TRACE(pair["name"].GetString());
    const bool masks = std::string(pair["iouType"].GetString()) == "segm";
    expect_stats({dir / pair["ground_truth"].GetString(), dir / pair["detections"].GetString(),
                  masks ? IouType::kMask : IouType::kBox},
                 pair["stats"]);
  }
}

TEST(CocoOracle, CocoApiExample) {
  SKIP_WITHOUT_ORACLE();
  const rapidjson::Document published = read_json(oracle_dir() / "published.json");
  const rapidjson::Value& example = published["cocoapi"];
  for (const char* type : {"bbox", "segm"}) {
    SCOPED_TRACE(type);
    expect_stats({oracle_dir() / example["ground_truth"].GetString(),
                  oracle_dir() / example[type]["detections"].GetString(),
                  type == std::string("segm") ? IouType::kMask : IouType::kBox},
                 example[type]["stats"]);
  }
}

TEST(CocoOracle, ReviewMetrics) {
  SKIP_WITHOUT_ORACLE();
  const rapidjson::Document published = read_json(oracle_dir() / "published.json");
  const rapidjson::Value& example = published["review_metrics_coco"];
  expect_stats({oracle_dir() / example["ground_truth"].GetString(),
                oracle_dir() / example["detections"].GetString(), IouType::kBox, 0, 1e-6},
               example["bbox"]);
}

TEST(CocoOracle, StringIdsAndCrowd) {
  SKIP_WITHOUT_ORACLE();
  const rapidjson::Document published = read_json(oracle_dir() / "published.json");
  const rapidjson::Value& example = published["faster_coco_eval_ignore"];
  expect_stats({oracle_dir() / example["ground_truth"].GetString(),
                oracle_dir() / example["detections"].GetString(), IouType::kBox, 0.1},
               example["bbox"]);
}

TEST(CocoOracle, ThreadsDontMatter) {
  SKIP_WITHOUT_ORACLE();
  const auto dir = oracle_dir() / "cocoapi";
  const CocoEvalData data =
      read_pair({dir / "instances_val2014_100.json",
                 dir / "instances_val2014_fakesegm100_results.json", IouType::kMask});
  const CocoResult one = evaluate_coco(data.input(), IouType::kMask, 1);
  const CocoResult four = evaluate_coco(data.input(), IouType::kMask, 4);
  EXPECT_EQ(one.stats, four.stats);
  EXPECT_EQ(one.precision50, four.precision50);
}

TEST(CocoOracle, WrittenDetectionsScoreTheSame) {
  SKIP_WITHOUT_ORACLE();
  const auto dir = oracle_dir() / "official";
  const auto detections = read_coco_detections(dir / "coco_mini_train_segm_dets.json");
  const auto copy = std::filesystem::path(testing::TempDir()) / "written_detections.json";
  std::ofstream(copy) << coco_detections_json(detections);
  const auto truth = read_coco_annotations(data_dir() / "coco_mini/instances_train.json");
  const auto score = [&](const std::vector<CocoDetection>& detections) {
    const CocoEvalData data = coco_eval_data(truth, detections, IouType::kMask);
    return evaluate_coco(data.input(), IouType::kMask).stats;
  };
  EXPECT_EQ(score(detections), score(read_coco_detections(copy)));
}

}  // namespace
}  // namespace trainer
