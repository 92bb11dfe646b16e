// The counts that the README of each real data set states.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/trainer/data/temp_data.h"
#include "trainer/config/load.h"
#include "trainer/data/data_report.h"

namespace trainer {
namespace {

class RealData : public ::testing::Test {
 protected:
  void SetUp() override {
    if (real_data().empty()) GTEST_SKIP() << "no folder of data sets; set RIDGELINE_DATA";
  }
  static DataConfig config(DataFormat format, const std::string& set) {
    DataConfig config;
    config.format = format;
    config.root = real_data() + "/" + set;
    config.size = {{256, 256}};
    return config;
  }
  static SplitReport only_split(const DataConfig& config, const Fields& fields) {
    DataReport report = data_report(config, {.fields = fields, .check = true, .threads = 2});
    EXPECT_FALSE(report.stop) << report.stop->what();
    return report.splits.at(0);
  }
};

TEST_F(RealData, BccdAsCoco) {
  DataConfig c = config(DataFormat::kCoco, "bccd");
  const std::map<std::string, int> images = {{"train", 205}, {"val", 87}, {"test", 72}};
  for (const auto& [name, count] : images)
    c.splits[name] = {.images = ".", .annotations = "instances_" + name + ".json"};
  const DataReport report =
      data_report(c, {.fields = {.boxes = true}, .check = true, .threads = 2});
  EXPECT_FALSE(report.stop);
  std::int64_t boxes = 0;
  for (const SplitReport& split : report.splits) {
    EXPECT_EQ(split.statistics.num_images, images.at(split.split));
    EXPECT_TRUE(split.anomalies.empty()) << split.split;
    boxes += split.statistics.num_boxes;
  }
  EXPECT_EQ(boxes, 4886);
}

TEST_F(RealData, BccdAsVoc) {
  DataConfig c = config(DataFormat::kVoc, "bccd");
  c.classes = {"RBC", "WBC", "Platelets"};
  std::int64_t boxes = 0;
  for (const char* name : {"trainval", "test"}) {
    c.splits = {{"train", {.list = std::string("ImageSets/Main/") + name + ".txt"}}};
    const auto set = open_dataset(c, {.fields = {.boxes = true}});
    for (std::int64_t i = 0; i < set->size(); ++i)
      boxes += static_cast<std::int64_t>(set->sample(i).objects.size());
    EXPECT_EQ(set->anomalies().num_errors(), 0);
  }
  EXPECT_EQ(boxes, 4888);
}

TEST_F(RealData, CocoMini) {
  DataConfig c = config(DataFormat::kCoco, "coco_mini");
  const std::map<std::string, std::pair<int, int>> expected = {{"train", {81, 797}},
                                                               {"val", {28, 228}}};
  std::int64_t crowds = 0;
  for (const auto& [name, counts] : expected) {
    c.splits = {{name, {.images = "images", .annotations = "instances_" + name + ".json"}}};
    for (const Fields fields : {Fields{.boxes = true}, Fields{.label_map = true}}) {
      const SplitReport split = only_split(c, fields);
      EXPECT_EQ(split.statistics.num_images, counts.first);
      EXPECT_EQ(split.statistics.num_boxes + split.anomalies.count(AnomalyKind::kCrowd) +
                    split.anomalies.count(AnomalyKind::kBoxWithoutArea),
                counts.second);
      EXPECT_EQ(split.statistics.classes.size(), 80u);
      if (fields.boxes) crowds += split.anomalies.count(AnomalyKind::kCrowd);
    }
  }
  EXPECT_EQ(crowds, 14);
}

// The categories of references/segmentation/coco_utils.py, in its order. The boxes are those of the
// file that are of them.
TEST_F(RealData, CocoWithVocsClasses) {
  const std::vector<std::int64_t> categories = {0,  5,  2,  16, 9, 44, 6,  3,  17, 62, 21,
                                                67, 18, 19, 4,  1, 64, 20, 63, 7,  72};
  DataConfig c = config(DataFormat::kCoco, "coco_mini");
  c.splits = {{"train", {.images = "images", .annotations = "instances_train.json"}}};
  const Fields fields{.boxes = true, .label_map = true};
  const auto all = open_dataset(c, {.fields = fields});
  c.only = load_config(RIDGELINE_SOURCE_DIR "/configs/fcn_r50_coco.yaml").config.data.only;
  const auto set = open_dataset(c, {.fields = fields});
  ASSERT_EQ(set->num_classes(), 21);
  for (int label = 1; label < 21; ++label)
    EXPECT_EQ(set->category_id(label), categories[static_cast<std::size_t>(label)]) << label;
  std::size_t expected = 0, kept = 0;
  for (std::int64_t i = 0; i < all->size(); ++i) {
    for (const Object& object : all->sample(i).objects)
      expected += std::ranges::count(categories, object.category_id) > 0;
    kept += set->sample(i).objects.size();
    for (const Object& object : set->sample(i).objects)
      EXPECT_EQ(categories[static_cast<std::size_t>(object.label)], object.category_id);
  }
  EXPECT_EQ(kept, expected);
  EXPECT_GT(kept, 100u);
  for (const std::uint16_t label : set->label_map(0).pixels)
    ASSERT_TRUE(label < 21 || label == 255) << label;
}

TEST_F(RealData, CocoMiniByIds) {
  DataConfig c = config(DataFormat::kCoco, "coco_mini");
  c.label_map = LabelMap::kIds;
  c.splits = {{"train", {.images = "images", .annotations = "instances_train.json"}}};
  const auto set = open_dataset(c, {.fields = {.boxes = true}});
  EXPECT_EQ(set->num_classes(), 91);
  EXPECT_EQ(set->class_name(90), "toothbrush");
}

TEST_F(RealData, Nuclei) {
  DataConfig c = config(DataFormat::kMasks, "nuclei");
  c.classes = {"nucleus"};
  const std::map<std::string, std::pair<int, int>> expected = {{"train", {120, 5031}},
                                                               {"val", {40, 2272}}};
  for (const auto& [name, counts] : expected) {
    c.format = DataFormat::kMasks;
    c.splits = {{name, {.list = "seg_" + name + ".txt"}}};
    const SplitReport maps = only_split(c, {.label_map = true});
    EXPECT_EQ(maps.statistics.num_images, counts.first);
    EXPECT_TRUE(maps.anomalies.empty());
    EXPECT_GT(maps.check->class_pixels[1], 0);
    c.format = DataFormat::kCoco;
    c.classes = {};
    c.splits = {{name, {.images = ".", .annotations = "instances_" + name + ".json"}}};
    const SplitReport boxes = only_split(c, {.boxes = true});
    EXPECT_EQ(boxes.statistics.num_boxes, counts.second);
    c.classes = {"nucleus"};
  }
}

TEST_F(RealData, Pets) {
  DataConfig c = config(DataFormat::kMasks, "pets3");
  c.classes = {"Abyssinian", "american_bulldog", "Bengal"};
  c.splits = {{"train", {.list = "seg_train.txt"}}};
  const SplitReport maps = only_split(c, {.label_map = true});
  EXPECT_EQ(maps.statistics.num_images, 300);
  EXPECT_GT(maps.check->ignored_pixels, 0);
  c.format = DataFormat::kCoco;
  c.classes = {};
  const std::vector<std::tuple<std::string, int, int>> files = {
      {"heads_train", 239, 240}, {"heads_val", 57, 57}, {"body_val", 149, 149}};
  for (const auto& [name, images, boxes] : files) {
    c.splits = {{"train", {.images = ".", .annotations = name + ".json"}}};
    const SplitReport split = only_split(c, {.boxes = true});
    EXPECT_EQ(split.statistics.num_images, images) << name;
    EXPECT_EQ(split.statistics.num_boxes, boxes) << name;
  }
}

TEST_F(RealData, Mnist) {
  DataConfig c = config(DataFormat::kMnist, "mnist");
  const OpenOptions train = {.fields = {.label = true}};
  const auto set = open_dataset(c, train);
  EXPECT_EQ(set->size(), 60000);
  EXPECT_EQ(set->sample(0).label, 5);
  EXPECT_EQ(set->image(0).image.width, 28);
  EXPECT_EQ(open_dataset(c, {.split = "val", .fields = {.label = true}})->size(), 10000);
  c.only = {"0", "1", "2", "3", "4"};
  const auto few = open_dataset(c, train);
  EXPECT_EQ(few->size(), 30596);
  EXPECT_EQ(few->num_classes(), 5);
}

}  // namespace
}  // namespace trainer
