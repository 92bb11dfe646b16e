#include "trainer/data/data_report.h"

#include <gtest/gtest.h>

#include "tests/trainer/data/temp_data.h"

namespace trainer {
namespace {

class Report : public ::testing::Test {
 protected:
  void SetUp() override {
    config_ = data_.config(DataFormat::kMasks);
    config_.classes = {"thing", "other"};
    for (const char* split : {"train", "val"}) {
      config_.splits[split] = {.images = std::string(split) + "/images",
                               .labels = std::string(split) + "/labels"};
      for (int i = 0; i < 4; ++i) {
        data_.write_image(fmt::format("{}/images/{}.png", split, i), 8, 4);
        data_.write_labels(fmt::format("{}/labels/{}.png", split, i), {8, 4}, 1, 255);
      }
    }
  }
  DataReport report(bool check) {
    return data_report(config_, {.fields = {.label_map = true}, .check = check, .threads = 2});
  }

  TempData data_;
  DataConfig config_;
};

TEST_F(Report, CleanSet) {
  const DataReport result = report(true);
  EXPECT_FALSE(result.stop);
  ASSERT_EQ(result.splits.size(), 2u);
  EXPECT_EQ(result.splits[0].split, "train");
  EXPECT_EQ(result.splits[0].statistics.num_images, 4);
  EXPECT_EQ(result.splits[0].check->class_pixels, (std::vector<std::int64_t>{0, 64, 0}));
  EXPECT_EQ(result.splits[0].check->class_images, (std::vector<std::int64_t>{0, 4, 0}));
  EXPECT_EQ(result.splits[0].check->ignored_pixels, 64);
  EXPECT_EQ(result.splits[0].statistics.width.max, 8);
  const std::string text = data_report_text(result, config_);
  EXPECT_NE(text.find("anomalies: none"), std::string::npos) << text;
  EXPECT_NE(text.find("'thing'"), std::string::npos) << text;
}

TEST_F(Report, OnlyTheCheckDecodes) {
  data_.write("val/images/2.png", "broken\x1b[2J");
  EXPECT_FALSE(report(false).stop);
  const DataReport result = report(true);
  ASSERT_TRUE(result.stop);
  EXPECT_EQ(result.stop->code(), comm::ExitCode::kData);
  EXPECT_EQ(result.splits[1].anomalies.count(AnomalyKind::kUndecodable), 1);
  const std::string json = data_report_json(result);
  EXPECT_NE(json.find("\"exit\":65"), std::string::npos) << json;
  EXPECT_EQ(json.find('\x1b'), std::string::npos);
}

TEST_F(Report, SkipStopsOnlyBeyondTheLimit) {
  data_.write("train/images/2.png", "broken");
  data_.write_labels("train/labels/3.png", {8, 4}, 7, 0);
  config_.on_error = OnError::kSkip;
  EXPECT_FALSE(report(true).stop);
  config_.skip_limit = 1;
  ASSERT_TRUE(report(true).stop);
}

TEST_F(Report, AMissingSetIs66AndOtherSplitsAreStillShown) {
  config_.splits["train"].images = "absent";
  const DataReport result = report(false);
  ASSERT_TRUE(result.stop);
  EXPECT_EQ(result.stop->code(), comm::ExitCode::kInputMissing);
  EXPECT_EQ(result.splits[1].statistics.num_images, 4);
}

TEST_F(Report, OtherSplitsDoNotStopTraining) {
  config_.splits["test"] = {.images = "absent", .labels = "absent"};
  const DataReport result = report(false);
  EXPECT_FALSE(result.stop);
  EXPECT_FALSE(result.splits[2].problem.empty());
}

TEST(Statistics, CountsOfShapes) {
  DataConfig config;
  config.format = DataFormat::kShapes;
  config.size = {{64, 96}, {96, 64}};
  config.splits["train"].limit = 12;
  const auto set = open_dataset(config, {.fields = {.boxes = true}});
  const DataStatistics s = data_statistics(*set, config);
  EXPECT_EQ(s.num_images, 12);
  EXPECT_EQ(s.images_of_bucket, (std::vector<std::int64_t>{6, 6}));
  std::int64_t boxes = 0;
  for (const ClassStatistics& entry : s.classes) boxes += entry.boxes;
  EXPECT_EQ(boxes, s.num_boxes);
  EXPECT_GE(s.num_boxes, 12);
  EXPECT_EQ(s.width.min, 64);
  EXPECT_EQ(s.width.max, 96);
}

}  // namespace
}  // namespace trainer
