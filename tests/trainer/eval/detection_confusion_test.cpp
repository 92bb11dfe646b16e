#include "trainer/eval/detection_confusion.h"

#include <gtest/gtest.h>

#include <numeric>

namespace trainer {
namespace {

using Box = std::array<double, 4>;
constexpr Box kA = {0, 0, 10, 10}, kB = {50, 50, 10, 10}, kC = {90, 90, 10, 10};

struct Scene {
  std::vector<std::int64_t> images = {1, 2};
  std::vector<std::int64_t> categories = {7, 9};
  std::vector<EvalObject> objects;
  std::vector<EvalDetection> detections;

  DetectionConfusion confusion(double score = 0.5) const {
    return detection_confusion({images, categories, objects, detections}, score);
  }
};

EvalObject object(std::int64_t category, const Box& box, bool crowd = false) {
  return {1, category, box, box[2] * box[3], crowd, {}};
}
EvalDetection found(std::int64_t category, const Box& box, double score) {
  return {1, category, box, box[2] * box[3], score, {}};
}

std::int64_t total(const DetectionConfusion& confusion) {
  return std::accumulate(confusion.counts.begin(), confusion.counts.end(), std::int64_t{0});
}

TEST(DetectionConfusion, RightMistakenMissedAndInvented) {
  const Scene scene = {
      .objects = {object(7, kA), object(7, kB), object(9, kC)},
      .detections = {found(7, kA, .9), found(9, kB, .8), found(9, {200, 200, 5, 5}, .7)}};
  const DetectionConfusion confusion = scene.confusion();
  EXPECT_EQ(confusion.at(0, 0), 1);
  EXPECT_EQ(confusion.at(0, 1), 1);  // 7 taken for 9
  EXPECT_EQ(confusion.at(1, 2), 1);  // 9 not found
  EXPECT_EQ(confusion.at(2, 1), 1);  // nothing taken for 9
  EXPECT_EQ(total(confusion), 4);
}

TEST(DetectionConfusion, ScoreThresholdIncludesEquality) {
  const Scene scene = {.objects = {object(7, kA)}, .detections = {found(7, kA, .5)}};
  EXPECT_EQ(scene.confusion(0.5).at(0, 0), 1);
  EXPECT_EQ(scene.confusion(0.51).at(0, 2), 1);
}

TEST(DetectionConfusion, BestScoreTakesTheObject) {
  const Scene scene = {.objects = {object(7, kA)},
                       .detections = {found(9, kA, .6), found(7, kA, .9)}};
  const DetectionConfusion confusion = scene.confusion();
  EXPECT_EQ(confusion.at(0, 0), 1);
  EXPECT_EQ(confusion.at(2, 1), 1);
}

TEST(DetectionConfusion, HighestIouIsTaken) {
  const Scene scene = {.objects = {object(7, {0, 0, 10, 8}), object(9, kA)},
                       .detections = {found(9, kA, .9)}};
  EXPECT_EQ(scene.confusion().at(1, 1), 1);
  EXPECT_EQ(scene.confusion().at(0, 2), 1);
}

TEST(DetectionConfusion, CrowdsAreNeitherMissedNorMistakes) {
  const Scene scene = {.objects = {object(7, {0, 0, 100, 100}, true), object(7, kA)},
                       .detections = {found(7, kA, .9), found(9, kB, .9), found(7, kC, .9)}};
  const DetectionConfusion confusion = scene.confusion();
  EXPECT_EQ(confusion.at(0, 0), 1);
  EXPECT_EQ(total(confusion), 1);
}

TEST(DetectionConfusion, OtherImagesAndClassesAreLeftOut) {
  Scene scene = {.objects = {object(7, kA), object(8, kA)}, .detections = {found(8, kA, .9)}};
  scene.objects.push_back(object(7, kB));
  scene.objects.back().image_id = 3;
  EXPECT_EQ(total(scene.confusion()), 1);
  EXPECT_EQ(scene.confusion().at(0, 2), 1);
}

}  // namespace
}  // namespace trainer
