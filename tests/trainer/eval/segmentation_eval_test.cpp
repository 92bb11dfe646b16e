#include "trainer/eval/segmentation_eval.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <stdexcept>

#include "tests/trainer/eval/oracle.h"
#include "trainer/data/image.h"

namespace trainer {
namespace {

using Map = std::vector<std::uint16_t>;

TEST(SegmentationEval, ByHand) {
  SegmentationConfusion confusion(3, 255);
  EXPECT_EQ(confusion.add(Map{0, 0, 0, 1, 1, 255}, Map{0, 0, 1, 1, 0, 2}), -1);
  EXPECT_EQ(confusion.at(0, 0), 2);
  EXPECT_EQ(confusion.at(0, 1), 1);
  EXPECT_EQ(confusion.at(1, 0), 1);
  EXPECT_EQ(confusion.num_ignored(), 1);
  EXPECT_DOUBLE_EQ(confusion.pixel_accuracy(), 3.0 / 5);
  EXPECT_DOUBLE_EQ(confusion.mean_accuracy(), (2.0 / 3 + 1.0 / 2) / 2);
  EXPECT_DOUBLE_EQ(confusion.iou()[0], 2.0 / 4);
  EXPECT_DOUBLE_EQ(confusion.iou()[1], 1.0 / 3);
  EXPECT_TRUE(std::isnan(confusion.iou()[2]));  // nowhere, so not part of the mean
  EXPECT_DOUBLE_EQ(confusion.mean_iou(), (0.5 + 1.0 / 3) / 2);
  EXPECT_DOUBLE_EQ(confusion.fw_iou(), (3 * 0.5 + 2 * (1.0 / 3)) / 5);
}

TEST(SegmentationEval, PredictedOnlyClassCountsAsZero) {
  SegmentationConfusion confusion(2, 255);
  confusion.add(Map{0, 0}, Map{0, 1});
  EXPECT_EQ(confusion.iou()[1], 0);
  EXPECT_EQ(confusion.mean_iou(), 0.25);
  EXPECT_EQ(confusion.mean_accuracy(), 0.5);
}

TEST(SegmentationEval, NothingToScoreIsUndefined) {
  SegmentationConfusion confusion(2, 255);
  confusion.add(Map{255, 255}, Map{0, 9});
  const std::vector<std::string> names = {"a", "b"};
  for (const auto& [name, value] : confusion.metrics(names).values) {
    EXPECT_TRUE(std::isnan(value)) << name;
  }
}

TEST(SegmentationEval, BadValuesAreNamedAndNothingIsAdded) {
  SegmentationConfusion confusion(2, 255);
  EXPECT_EQ(confusion.add(Map{0, 1, 2}, Map{0, 0, 0}), 2);
  EXPECT_EQ(confusion.add(Map{0, 1, 1}, Map{0, 7, 0}), 1);
  EXPECT_EQ(confusion.add(Map{0, 255}, Map{255, 0}), 0);  // 255 is no prediction
  EXPECT_TRUE(std::isnan(confusion.pixel_accuracy()));
  EXPECT_THROW(confusion.add(Map{0}, Map{0, 0}), std::invalid_argument);
  EXPECT_THROW(SegmentationConfusion(0, 255), std::invalid_argument);
}

TEST(SegmentationEval, WithoutIgnoreEveryLabelCounts) {
  SegmentationConfusion confusion(256, -1);
  EXPECT_EQ(confusion.add(Map{255, 0}, Map{255, 255}), -1);
  EXPECT_EQ(confusion.pixel_accuracy(), 0.5);
}

TEST(SegmentationEval, MergedPartsEqualTheWhole) {
  SegmentationConfusion whole(2, 255), left(2, 255), right(2, 255);
  whole.add(Map{0, 1, 1, 255}, Map{1, 1, 0, 0});
  left.add(Map{0, 1}, Map{1, 1});
  right.add(Map{1, 255}, Map{0, 0});
  left.merge(right.counts());
  EXPECT_TRUE(std::equal(whole.counts().begin(), whole.counts().end(), left.counts().begin()));
  EXPECT_THROW(left.merge(SegmentationConfusion(3, 255).counts()), std::invalid_argument);
}

TEST(SegmentationEval, PublishedPairs) {
  SKIP_WITHOUT_ORACLE();
  const auto dir = oracle_dir() / "segmentation";
  const rapidjson::Document expected = read_json(dir / "expected.json");
  SegmentationConfusion confusion(4, 255);
  std::ifstream pairs(dir / "pairs.txt");
  std::string label, prediction;
  int num_pairs = 0;
  while (pairs >> label >> prediction) {
    const LabelImage truth = read_label_image(dir / label),
                     found = read_label_image(dir / prediction);
    ASSERT_EQ(confusion.add(truth.pixels, found.pixels), -1) << label;
    ++num_pairs;
  }
  EXPECT_EQ(num_pairs, 12);
  for (int t = 0; t < 4; ++t) {
    for (int p = 0; p < 4; ++p) {
      EXPECT_EQ(confusion.at(t, p), expected["confusion"][t][p].GetInt64());
    }
    EXPECT_NEAR(confusion.iou()[t], expected["iou"][t].GetDouble(), 1e-12);
  }
  EXPECT_EQ(confusion.num_ignored(), expected["ignored_pixels"].GetInt64());
  EXPECT_NEAR(confusion.pixel_accuracy(), expected["pixel_accuracy"].GetDouble(), 1e-12);
  EXPECT_NEAR(confusion.mean_accuracy(), expected["mean_class_accuracy"].GetDouble(), 1e-12);
  EXPECT_NEAR(confusion.mean_iou(), expected["mean_iou"].GetDouble(), 1e-12);
  EXPECT_NEAR(confusion.fw_iou(), expected["freq_weighted_iou"].GetDouble(), 1e-12);
}

}  // namespace
}  // namespace trainer
