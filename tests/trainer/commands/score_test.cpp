#include "trainer/commands/score.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include <cmath>
#include <fstream>
#include <iterator>

#include "comm/error.h"
#include "trainer/data/image.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// A folder of its own for each test.
class Score : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::path(testing::TempDir()) /
           ("score_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(dir_);
    fs::create_directories(dir_ / "labels");
    fs::create_directories(dir_ / "predictions");
  }
  void TearDown() override { fs::remove_all(dir_); }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(dir_ / name, std::ios::binary) << text;
  }
  void write(const std::string& name, const LabelImage& labels) const {
    write_label_png(dir_ / name, labels, voc_palette());
  }
  ScoreLabels labels(int num_classes = 3) const {
    return {dir_ / "labels", dir_ / "predictions", num_classes, 255};
  }
  ScoreDetections detections() const { return {dir_ / "gt.json", dir_ / "dt.json"}; }

  fs::path dir_;
};

template <typename Run>
void expect_error(Run run, comm::ExitCode code, const std::string& part) {
  try {
    run();
    ADD_FAILURE() << "no error; expected: " << part;
  } catch (const comm::Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

constexpr const char* kGroundTruth =
    R"({"images": [{"id": 1, "width": 20, "height": 20}], "categories": [{"id": 1, "name": "cat"},
        {"id": 2, "name": "dog"}], "annotations": [{"id": 1, "image_id": 1, "category_id": 1,
        "bbox": [0, 0, 10, 10], "area": 100, "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]]}]})";

TEST_F(Score, DetectionsByBoxAndMask) {
  write("gt.json", kGroundTruth);
  write("dt.json", R"([{"image_id": 1, "category_id": 1, "score": 0.9, "bbox": [0, 0, 10, 5]}])");
  ScoreDetections options = detections();
  EXPECT_NEAR(*score_detections(options).find("bbox/AP"), 0.1, 1e-12);
  EXPECT_NEAR(*score_detections(options).find("bbox/per_class/cat"), 0.1, 1e-12);
  EXPECT_TRUE(std::isnan(*score_detections(options).find("bbox/per_class/dog")));
  options.type = IouType::kMask;
  EXPECT_NEAR(*score_detections(options).find("segm/AP50"), 1, 1e-12);
}

TEST_F(Score, BoxesBeyondAllBoundsAreNoBug) {
  write("gt.json", kGroundTruth);
  write("dt.json", R"([{"image_id": 1, "category_id": 1, "score": 0.9, "bbox": [1, 1, 1e9, 5]}])");
  ScoreDetections options = detections();
  EXPECT_NO_THROW(score_detections(options));
  options.type = IouType::kMask;
  expect_error([&] { score_detections(options); }, comm::ExitCode::kData,
               "detection number 0 (from 0): bbox: polygon coordinate");
}

TEST_F(Score, CategoriesOfOneNameAreToldApart) {
  write("gt.json", R"({"images": [{"id": 1, "width": 20, "height": 20}], "annotations": [],
      "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "b"}, {"id": 3, "name": "b"}]})");
  write("dt.json", "[]");
  const Metrics metrics = score_detections(detections());
  std::vector<std::string> names;
  for (const auto& [name, ap] : metrics.groups.at(0).per_class) names.push_back(name);
  EXPECT_THAT(names, testing::ElementsAre("cat", "b (3)", "b (7)"));
}

TEST_F(Score, FilesThatDontFit) {
  write("gt.json", kGroundTruth);
  expect_error([&] { score_detections(detections()); }, comm::ExitCode::kInputMissing, "dt.json");
  write("dt.json", R"([{"image_id": 5, "category_id": 1, "score": 0.9, "bbox": [0, 0, 1, 1]}])");
  expect_error([&] { score_detections(detections()); }, comm::ExitCode::kData,
               "dt.json': detection number 0 (from 0): image id 5");
  write("dt.json", kGroundTruth);
  expect_error([&] { score_detections(detections()); }, comm::ExitCode::kData,
               "\"score\" is missing");
  write("gt.json", "[]");
  expect_error([&] { score_detections(detections()); }, comm::ExitCode::kData, "results file");
}

TEST_F(Score, LabelImagesAgainstTheirNamesakes) {
  write("labels/a.png", LabelImage{2, 2, {0, 0, 1, 255}});
  write("labels/b.png", LabelImage{1, 2, {1, 1}});
  write("labels/unused.png", LabelImage{1, 1, {1}});
  write("predictions/a.png", LabelImage{2, 2, {0, 1, 1, 2}});
  write("predictions/b.png", LabelImage{1, 2, {1, 0}});
  write("predictions/.hidden", "no image");
  const Metrics metrics = score_labels(labels());
  EXPECT_DOUBLE_EQ(*metrics.find("semantic/pixel_accuracy"), 3.0 / 5);
  EXPECT_DOUBLE_EQ(*metrics.find("semantic/per_class/0"), 1.0 / 3);
  EXPECT_DOUBLE_EQ(*metrics.find("semantic/per_class/1"), 2.0 / 4);
  EXPECT_TRUE(std::isnan(*metrics.find("semantic/per_class/2")));
}

TEST_F(Score, LabelImagesThatDontFit) {
  const auto expect = [&](comm::ExitCode code, const std::string& part) {
    expect_error([&] { score_labels(labels()); }, code, part);
  };
  expect(comm::ExitCode::kInputMissing, "holds no file");
  write("predictions/a.png", LabelImage{2, 1, {0, 2}});
  expect(comm::ExitCode::kInputMissing, "a.png': no such label image");
  write("labels/a.png", LabelImage{1, 2, {0, 1}});
  expect(comm::ExitCode::kData, "is 2 x 1, but");
  write("labels/a.png", LabelImage{2, 1, {0, 3}});
  expect(comm::ExitCode::kData, "labels/a.png': value 3 at x = 1, y = 0");
  write("labels/a.png", LabelImage{2, 1, {0, 1}});
  write("predictions/a.png", LabelImage{2, 1, {0, 255}});
  expect(comm::ExitCode::kData, "predictions/a.png': value 255 at x = 1, y = 0");
  write("predictions/a.png", "no image");
  expect(comm::ExitCode::kData, "a.png");
  expect_error([&] { score_labels(labels(0)); }, comm::ExitCode::kUsage, "--num-classes 0");
  fs::remove_all(dir_ / "predictions");
  expect(comm::ExitCode::kInputMissing, "can't be listed");
}

TEST_F(Score, ReportsAsTextAndJson) {
  const Metrics metrics = {{{"bbox", {{"AP", 0.12345}, {"APl", kUndefined}}, {{"cat", 0.5}}}}};
  const std::string text = report_score(metrics, dir_ / "metrics.json");
  EXPECT_THAT(text, HasSubstr("0.1235"));
  EXPECT_THAT(text, testing::ContainsRegex("APl +-"));
  EXPECT_THAT(text, testing::ContainsRegex("cat +0.5000"));
  std::ifstream file(dir_ / "metrics.json");
  const std::string json((std::istreambuf_iterator<char>(file)), {});
  rapidjson::Document document;
  document.Parse(json.c_str());
  ASSERT_FALSE(document.HasParseError());
  EXPECT_EQ(document["bbox"]["AP"].GetDouble(), 0.12345);
  EXPECT_EQ(report_score(metrics, {}), text);
  expect_error([&] { report_score(metrics, dir_ / "metrics.json" / "folder.json"); },
               comm::ExitCode::kIo, "metrics.json");
}

}  // namespace
}  // namespace trainer
