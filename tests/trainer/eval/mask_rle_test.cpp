#include "trainer/eval/mask_rle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <stdexcept>

#include "tests/trainer/eval/oracle.h"
#include "trainer/data/coco_json.h"

namespace trainer {
namespace {

using Counts = std::vector<std::uint32_t>;

std::vector<std::uint8_t> random_pixels(std::mt19937& random, std::int64_t count, int percent) {
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(count));
  for (std::uint8_t& pixel : pixels) pixel = static_cast<int>(random() % 100) < percent;
  return pixels;
}

TEST(MaskRle, RunsGoDownTheColumns) {
  const std::vector<std::uint8_t> pixels = {0, 1, 1,  //
                                            0, 1, 0};
  const Rle mask = rle_encode(pixels, 2, 3);
  EXPECT_EQ(mask.counts, (Counts{2, 3, 1}));
  EXPECT_EQ(rle_decode(mask), pixels);
  EXPECT_EQ(rle_area(mask), 3);
  EXPECT_EQ(rle_box(mask), (std::array<double, 4>{1, 0, 2, 2}));
}

TEST(MaskRle, ForegroundFirstHasAnEmptyRun) {
  EXPECT_EQ(rle_encode(std::vector<std::uint8_t>{1, 0}, 2, 1).counts, (Counts{0, 1, 1}));
  EXPECT_EQ(rle_encode(std::vector<std::uint8_t>{}, 0, 5).counts, (Counts{0}));
  EXPECT_EQ(rle_box(Rle{4, 4, {16}}), (std::array<double, 4>{0, 0, 0, 0}));
}

TEST(MaskRle, RandomMasksSurviveEveryForm) {
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    const std::int64_t height = 1 + random() % 40, width = 1 + random() % 40;
    const auto pixels = random_pixels(random, height * width, static_cast<int>(random() % 101));
    const Rle mask = rle_encode(pixels, height, width);
    EXPECT_EQ(rle_decode(mask), pixels);
    EXPECT_EQ(rle_from_string(rle_to_string(mask), height, width), mask);
    const std::vector<std::int64_t> counts(mask.counts.begin(), mask.counts.end());
    EXPECT_EQ(rle_from_counts(counts, height, width), mask);
  }
}

TEST(MaskRle, SetOperationsMatchPixels) {
  std::mt19937 random(2);
  for (int i = 0; i < 200; ++i) {
    const std::int64_t height = 1 + random() % 20, width = 1 + random() % 20;
    const auto a = random_pixels(random, height * width, 60);
    const auto b = random_pixels(random, height * width, static_cast<int>(random() % 101));
    std::vector<std::uint8_t> both(a.size()), any(a.size());
    for (std::size_t p = 0; p < a.size(); ++p) {
      both[p] = a[p] & b[p];
      any[p] = a[p] | b[p];
    }
    const std::vector<Rle> masks = {rle_encode(a, height, width), rle_encode(b, height, width)};
    EXPECT_EQ(rle_union(masks), rle_encode(any, height, width));
    EXPECT_EQ(rle_intersection(masks), rle_encode(both, height, width));
    const auto num_both = std::count(both.begin(), both.end(), 1);
    const auto num_any = std::count(any.begin(), any.end(), 1);
    const auto num_a = std::count(a.begin(), a.end(), 1);
    EXPECT_EQ(rle_intersection_area(masks[0], masks[1]), num_both);
    EXPECT_EQ(rle_iou(masks[0], masks[1], false),
              num_both == 0 ? 0 : static_cast<double>(num_both) / static_cast<double>(num_any));
    EXPECT_EQ(rle_iou(masks[0], masks[1], true),
              num_both == 0 ? 0 : static_cast<double>(num_both) / static_cast<double>(num_a));
  }
}

TEST(MaskRle, EmptyRunsInsideAreJoined) {
  const std::vector<std::int64_t> counts = {3, 2, 0, 4, 0, 0, 1};
  EXPECT_EQ(rle_from_counts(counts, 2, 5).counts, (Counts{3, 6, 1}));
}

TEST(MaskRle, PolygonOfWholePixels) {
  const std::vector<double> square = {1, 1, 3, 1, 3, 3, 1, 3};
  EXPECT_EQ(rle_from_polygon(square, 4, 4), rle_from_box({1, 1, 2, 2}, 4, 4));
  EXPECT_EQ(rle_from_polygon(square, 4, 4).counts, (Counts{5, 2, 2, 2, 5}));
}

TEST(MaskRle, PolygonOutsideIsEmpty) {
  const std::vector<double> beyond = {50, 50, 60, 50, 60, 60};
  const std::vector<double> before = {-9, -9, -3, -9, -3, -3};
  EXPECT_EQ(rle_area(rle_from_polygon(beyond, 20, 20)), 0);
  EXPECT_EQ(rle_area(rle_from_polygon(before, 20, 20)), 0);
}

TEST(MaskRle, RefusesWhatIsNoMask) {
  const auto counts = [](std::vector<std::int64_t> runs) { return rle_from_counts(runs, 2, 2); };
  EXPECT_THROW(counts({3}), std::invalid_argument);
  EXPECT_THROW(counts({3, 2}), std::invalid_argument);
  EXPECT_THROW(counts({5, -1}), std::invalid_argument);
  EXPECT_THROW(counts({1, -1, 4}), std::invalid_argument);
  EXPECT_THROW(counts({std::int64_t{1} << 40}), std::invalid_argument);
  EXPECT_THROW(rle_from_counts({}, -2, -2), std::invalid_argument);
  EXPECT_THROW(rle_from_counts({}, std::int64_t{1} << 40, 1), std::invalid_argument);
  EXPECT_THROW(rle_from_string("4\n", 2, 2), std::invalid_argument);
  EXPECT_THROW(rle_from_string("\xff", 2, 2), std::invalid_argument);
  EXPECT_THROW(rle_from_string("P", 2, 2), std::invalid_argument);  // ends inside a number
  EXPECT_THROW(rle_from_string("PPPPPPPPPPPP1", 2, 2), std::invalid_argument);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto polygon = [](std::vector<double> xy) { return rle_from_polygon(xy, 4, 4); };
  EXPECT_THROW(polygon({0, 0, 1, 1}), std::invalid_argument);
  EXPECT_THROW(polygon({0, 0, 1, 1, 2, 2, 3}), std::invalid_argument);
  EXPECT_THROW(polygon({0, 0, 1, nan, 2, 2}), std::invalid_argument);
  EXPECT_THROW(polygon({0, 0, 1, 1e300, 2, 2}), std::invalid_argument);
  EXPECT_THROW(rle_iou(Rle{2, 2, {4}}, Rle{1, 4, {4}}, false), std::invalid_argument);
  EXPECT_THROW(rle_union({}), std::invalid_argument);
}

TEST(MaskRle, SmallOfficialMasks) {
  SKIP_WITHOUT_ORACLE();
  const rapidjson::Document cases = read_json(oracle_dir() / "official/rle_small.json");
  ASSERT_EQ(cases.Size(), 18u);
  for (const rapidjson::Value& example : cases.GetArray()) {
    const std::int64_t height = example["size"][0].GetInt(), width = example["size"][1].GetInt();
    std::vector<double> input;
    for (const rapidjson::Value& value : example["input"].GetArray()) {
      input.push_back(value.GetDouble());
    }
    Counts counts;
    for (const rapidjson::Value& run : example["counts"].GetArray())
      counts.push_back(run.GetUint());
    const std::string text = example["counts_string"].GetString();
    SCOPED_TRACE(text);
    const bool is_box = std::string(example["kind"].GetString()) == "bbox";
    const Rle mask = is_box ? rle_from_box({input[0], input[1], input[2], input[3]}, height, width)
                            : rle_from_polygon(input, height, width);
    EXPECT_EQ(mask.counts, counts);
    EXPECT_EQ(rle_to_string(mask), text);
    EXPECT_EQ(rle_from_string(text, height, width), mask);
    EXPECT_EQ(rle_area(mask), example["area"].GetInt());
    for (int i = 0; i < 4; ++i) EXPECT_EQ(rle_box(mask)[i], example["bbox"][i].GetDouble());
  }
}

TEST(MaskRle, OfficialMasksOfRealObjects) {
  SKIP_WITHOUT_ORACLE();
  const CocoAnnotations coco = read_coco_annotations(data_dir() / "coco_mini/instances_val.json");
  const rapidjson::Document masks = read_json(oracle_dir() / "official/coco_mini_val_masks.json");
  ASSERT_EQ(masks.Size(), coco.annotations.size());
  for (const rapidjson::Value& expected : masks.GetArray()) {
    const auto id = expected["annotation_id"].GetInt64();
    SCOPED_TRACE(id);
    const auto annotation = std::find_if(coco.annotations.begin(), coco.annotations.end(),
                                         [&](const CocoAnnotation& a) { return a.id == id; });
    ASSERT_NE(annotation, coco.annotations.end());
    const rapidjson::Value& size = expected["rle"]["size"];
    const Rle mask = to_rle(annotation->segmentation, size[0].GetInt(), size[1].GetInt());
    EXPECT_EQ(rle_to_string(mask), expected["rle"]["counts"].GetString());
    EXPECT_EQ(rle_area(mask), expected["area"].GetInt64());
    for (int i = 0; i < 4; ++i) EXPECT_EQ(rle_box(mask)[i], expected["bbox"][i].GetDouble());
  }
}

}  // namespace
}  // namespace trainer
