#include "trainer/eval/coco_eval.h"

#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

#include "trainer/eval/coco_match.h"

namespace trainer {
namespace {

using Box = std::array<double, 4>;
constexpr Box kSmall = {10, 10, 20, 20};     // 400 square pixels
constexpr Box kMedium = {100, 100, 50, 50};  // 2500
constexpr Box kLarge = {200, 200, 100, 100};
constexpr Box kNowhere = {500, 500, 20, 20};

// Input of one image and class unless said otherwise.
struct Scene {
  std::vector<std::int64_t> images = {1};
  std::vector<std::int64_t> categories = {1};
  std::vector<EvalObject> objects;
  std::vector<EvalDetection> detections;

  void object(const Box& box, std::int64_t image = 1, std::int64_t category = 1) {
    objects.push_back({image, category, box, box[2] * box[3], false, {}});
  }
  void crowd(const Box& box) { objects.push_back({1, 1, box, box[2] * box[3], true, {}}); }
  void found(const Box& box, double score, std::int64_t image = 1, std::int64_t category = 1) {
    detections.push_back({image, category, box, box[2] * box[3], score, {}});
  }
  CocoResult evaluate() const {
    return evaluate_coco({images, categories, objects, detections}, IouType::kBox);
  }
  double stat(CocoStat stat) const { return evaluate().stats[stat]; }
};

// Precision is tp / (tp + fp + eps), so that 1 of 1 isn't 1.
constexpr double kClose = 1e-12;

TEST(CocoEval, EveryObjectFound) {
  Scene scene;
  for (const Box& box : {kSmall, kMedium, kLarge}) {
    scene.object(box);
    scene.found(box, .9);
  }
  const CocoStats stats = scene.evaluate().stats;
  for (const CocoStat stat : {kAp, kAp50, kAp75, kApS, kApM, kApL, kAr10, kAr100, kArS, kArL}) {
    EXPECT_NEAR(stats[stat], 1, kClose) << kCocoStatNames[stat];
  }
  EXPECT_NEAR(stats[kAr1], 1.0 / 3, kClose);
}

TEST(CocoEval, NothingFound) {
  Scene scene;
  scene.object(kSmall);
  EXPECT_EQ(scene.stat(kAp), 0);
  EXPECT_EQ(scene.stat(kAr100), 0);
  EXPECT_TRUE(std::isnan(scene.stat(kApL)));  // no large object
}

TEST(CocoEval, WithoutObjectsEverythingIsUndefined) {
  Scene scene;
  scene.found(kSmall, .9);
  const CocoResult result = scene.evaluate();
  for (const double stat : result.stats) EXPECT_TRUE(std::isnan(stat));
  EXPECT_TRUE(std::isnan(result.precision50[0]));
  EXPECT_TRUE(std::isnan(Scene().stat(kAp)));
}

TEST(CocoEval, WrongDetectionAboveARightOneHalvesPrecision) {
  Scene scene;
  scene.object(kSmall);
  scene.object(kMedium);
  scene.found(kNowhere, .9);
  scene.found(kSmall, .8);
  // Recall 1/2 is reached with precision 1/2: 51 of the 101 recalls.
  EXPECT_NEAR(scene.stat(kAp), 51 * 0.5 / 101, kClose);
  EXPECT_NEAR(scene.stat(kAr100), 0.5, kClose);
  EXPECT_NEAR(scene.stat(kAr1), 0, kClose);
  const CocoResult result = scene.evaluate();
  EXPECT_NEAR(result.precision50[50], 0.5, kClose);
  EXPECT_EQ(result.precision50[51], 0);
}

TEST(CocoEval, ThresholdsIncludeEquality) {
  Scene scene;
  scene.object({0, 0, 10, 10});
  scene.found({0, 0, 10, 5}, .9);  // IoU exactly .5: right at one of ten thresholds
  EXPECT_NEAR(scene.stat(kAp50), 1, kClose);
  EXPECT_NEAR(scene.stat(kAp), 0.1, kClose);
  scene.detections[0].box[3] = 4.999;
  EXPECT_EQ(scene.stat(kAp50), 0);
}

TEST(CocoEval, SecondDetectionOfAnObjectIsWrong) {
  Scene scene;
  scene.object(kSmall);
  scene.object(kMedium);
  scene.found(kSmall, .9);
  scene.found(kSmall, .8);
  scene.found(kMedium, .7);
  EXPECT_NEAR(scene.stat(kAp), (51 + 50 * 2.0 / 3) / 101, kClose);
}

TEST(CocoEval, EqualScoresRankByImageThenInput) {
  Scene scene;
  scene.images = {2, 1};  // ascending ids decide, not this order
  scene.object(kSmall, 1);
  scene.object(kSmall, 2);
  scene.found(kNowhere, .5, 2);
  scene.found(kSmall, .5, 1);
  EXPECT_NEAR(scene.stat(kAp), 51.0 / 101, kClose);  // right, then wrong
  scene.detections[1].box = kNowhere;
  scene.detections[0].box = kSmall;
  EXPECT_NEAR(scene.stat(kAp), 51 * 0.5 / 101, kClose);
}

TEST(CocoEval, CrowdsSwallowDetections) {
  Scene scene;
  scene.object(kSmall);
  scene.crowd({100, 100, 200, 200});
  scene.found({110, 110, 20, 20}, .9);
  scene.found({150, 150, 20, 20}, .8);
  scene.found(kSmall, .7);
  EXPECT_NEAR(scene.stat(kAp), 1, kClose);
  EXPECT_NEAR(scene.stat(kAr1), 0, kClose);  // the one best detection went to the crowd
}

TEST(CocoEval, AnObjectIsPreferredToACrowd) {
  Scene scene;
  scene.crowd({0, 0, 100, 100});
  scene.object({0, 0, 20, 20});
  scene.found({0, 0, 20, 19}, .9);  // IoU 1 with the crowd, .95 with the object
  EXPECT_NEAR(scene.stat(kAp50), 1, kClose);
}

TEST(CocoEval, OtherAreasAreIgnoredNotWrong) {
  Scene scene;
  scene.object(kSmall);
  scene.object(kLarge);
  scene.found(kLarge, .9);
  scene.found(kMedium, .8);  // wrong, but neither small nor large
  scene.found(kSmall, .7);
  EXPECT_NEAR(scene.stat(kApS), 1, kClose);
  EXPECT_NEAR(scene.stat(kApL), 1, kClose);
  EXPECT_TRUE(std::isnan(scene.stat(kApM)));
  EXPECT_NEAR(scene.stat(kAp), (51 + 50 * 2.0 / 3) / 101, kClose);
}

TEST(CocoEval, OnlyTheBestHundredCount) {
  Scene scene;
  scene.object(kSmall);
  for (int i = 0; i < 100; ++i) scene.found(kNowhere, .9);
  scene.found(kSmall, .8);
  EXPECT_EQ(scene.stat(kAr100), 0);
  scene.detections.erase(scene.detections.begin());
  EXPECT_NEAR(scene.stat(kAr100), 1, kClose);
  EXPECT_EQ(scene.stat(kAr10), 0);
}

TEST(CocoEval, ClassesAreApartAndAveraged) {
  Scene scene;
  scene.categories = {3, 1, 2};
  scene.object(kSmall, 1, 1);
  scene.object(kSmall, 1, 3);
  scene.found(kSmall, .9, 1, 1);
  scene.found(kSmall, .9, 1, 2);  // no such object: class 2 is undefined
  const CocoResult result = scene.evaluate();
  EXPECT_EQ(result.per_class[0].category_id, 3);
  EXPECT_EQ(result.per_class[0].stats[kAp], 0);
  EXPECT_NEAR(result.per_class[1].stats[kAp], 1, kClose);
  EXPECT_TRUE(std::isnan(result.per_class[2].stats[kAp]));
  EXPECT_NEAR(result.stats[kAp], 0.5, kClose);
  const std::vector<std::string> names = {"c", "a", "b"};
  const MetricGroup metrics = coco_metrics(result, "bbox", names);
  EXPECT_EQ(metrics.values[0].first, "AP");
  EXPECT_EQ(metrics.per_class[0].first, "c");
  EXPECT_EQ(metrics.per_class[0].second, 0);
  EXPECT_THROW(coco_metrics(result, "bbox", {}), std::invalid_argument);
}

TEST(CocoEval, UnlistedImagesAndCategoriesAreLeftOut) {
  Scene scene;
  scene.object(kSmall);
  scene.found(kSmall, .9);
  const CocoStats before = scene.evaluate().stats;
  scene.object(kSmall, 7);
  scene.found(kMedium, .95, 7);
  scene.found(kMedium, .95, 1, 7);
  const CocoStats after = scene.evaluate().stats;
  EXPECT_EQ(before[kAp], after[kAp]);
  EXPECT_EQ(before[kAr100], after[kAr100]);
}

TEST(CocoEval, MasksDecideWhereAsked) {
  const auto mask = [](const Box& box) { return rle_from_box(box, 100, 100); };
  Scene scene;
  scene.object({0, 0, 20, 20});
  scene.objects[0].mask = mask({0, 0, 20, 20});
  scene.found({0, 0, 20, 20}, .9);
  scene.detections[0].mask = mask({0, 0, 20, 10});
  const CocoEvalInput input = {scene.images, scene.categories, scene.objects, scene.detections};
  EXPECT_NEAR(evaluate_coco(input, IouType::kBox).stats[kAp], 1, kClose);
  EXPECT_NEAR(evaluate_coco(input, IouType::kMask).stats[kAp], 0.1, kClose);
  scene.detections[0].mask = rle_from_box({0, 0, 20, 10}, 50, 100);
  EXPECT_THROW(evaluate_coco(input, IouType::kMask, 2), std::invalid_argument);
}

TEST(CocoEval, RefusesAmbiguousInput) {
  Scene scene;
  scene.images = {1, 1};
  EXPECT_THROW(scene.evaluate(), std::invalid_argument);
  scene.images = {1};
  scene.found(kSmall, std::nan(""));
  EXPECT_THROW(scene.evaluate(), std::invalid_argument);
}

// With a fused multiply-add the union would round differently from the COCO API's, and equality
// with a threshold would fall the other way: the folder is compiled without contraction.
TEST(CocoEval, BoxIouIsNotContracted) {
  const Box a = {0, 0, 1.1, 7.1}, b = {.3, .7, 1.8, 6.9};  // rounds otherwise in any fused form
  volatile double width = std::min(a[0] + a[2], b[0] + b[2]) - std::max(a[0], b[0]);
  volatile double height = std::min(a[1] + a[3], b[1] + b[3]) - std::max(a[1], b[1]);
  volatile double both = width * height, area_a = a[2] * a[3], area_b = b[2] * b[3];
  volatile double sum = area_a + area_b;
  volatile double any = sum - both;
  EXPECT_EQ(box_iou(a, b, false), both / any);
}

}  // namespace
}  // namespace trainer
