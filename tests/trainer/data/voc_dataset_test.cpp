#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/data/temp_data.h"

namespace trainer {
namespace {

class VocDataset : public ::testing::Test {
 protected:
  void SetUp() override {
    data_.write_image("JPEGImages/a.png", 20, 10);
    data_.write("ImageSets/Main/train.txt", "a\n");
    config_ = data_.config(DataFormat::kVoc);
    config_.splits["train"] = {};
  }
  static std::string object(const std::string& name, const std::string& corners,
                            const std::string& rest = "") {
    return "<object><name>" + name + "</name>" + rest + "<bndbox>" + corners + "</bndbox></object>";
  }
  static std::string corners(int xmin, int ymin, int xmax, int ymax) {
    return fmt::format("<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>", xmin, ymin,
                       xmax, ymax);
  }
  std::unique_ptr<Dataset> open(const std::string& objects,
                                const Fields& fields = {.boxes = true}) {
    data_.write("Annotations/a.xml",
                "<annotation><size><width>20</width><height>10</height></size>" + objects +
                    "</annotation>");
    return open_dataset(config_, {.fields = fields});
  }

  TempData data_;
  DataConfig config_;
};

TEST_F(VocDataset, CornersAreOneBasedAndInclusive) {
  const auto set = open(object("dog", corners(1, 1, 20, 10)) +
                        object("cat", corners(5, 4, 5, 4), "<difficult>1</difficult>"));
  const auto& objects = set->sample(0).objects;
  ASSERT_EQ(objects.size(), 2u);
  EXPECT_EQ(objects[0].box, (Corners{0, 0, 20, 10}));
  EXPECT_EQ(objects[1].box, (Corners{4, 3, 5, 4}));
  EXPECT_TRUE(objects[1].difficult);
  EXPECT_TRUE(objects[1].trained);
  EXPECT_EQ(set->class_name(objects[0].label), "dog");
  EXPECT_EQ(set->num_classes(), 21);
  EXPECT_TRUE(set->ground_truth().annotations[1].ignore);
  EXPECT_TRUE(set->anomalies().empty());
}

TEST_F(VocDataset, Anomalies) {
  const std::string objects = object("dog", corners(0, 1, 21, 10)) +
                              object("unicorn", corners(1, 1, 2, 2)) +
                              object("dog", corners(9, 1, 2, 2)) + object("dog", "<xmin>1</xmin>") +
                              object("dog", corners(30, 1, 40, 5));
  EXPECT_EQ(thrown_by([&] { open(objects); }).code, 65);
  config_.on_error = OnError::kSkip;
  const auto set = open(objects);
  EXPECT_EQ(set->anomalies().count(AnomalyKind::kBoxClipped), 1);
  EXPECT_EQ(set->anomalies().count(AnomalyKind::kUnknownId), 1);
  EXPECT_EQ(set->anomalies().count(AnomalyKind::kMalformed), 2);
  EXPECT_EQ(set->anomalies().count(AnomalyKind::kBoxWithoutArea), 1);
}

TEST_F(VocDataset, CornersAreNumbersAndNothingElse) {
  const auto xmin = [&](const std::string& text) {
    return object("dog", "<xmin>" + text + "</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax>");
  };
  EXPECT_EQ(open(xmin(" 2.5\n"))->sample(0).objects.at(0).box[0], 1.5);
  for (const char* text : {"abc", "3abc", "", " ", "nan"}) {
    EXPECT_THAT(thrown_by([&] { open(xmin(text)); }).message,
                ::testing::HasSubstr("malformed annotation"))
        << text;
  }
}

TEST_F(VocDataset, ListsMayHaveASecondColumn) {
  data_.write("ImageSets/Main/dog_train.txt", "a  1\r\n\n");
  config_.splits["train"].list = "ImageSets/Main/dog_train.txt";
  EXPECT_EQ(open("")->size(), 1);
}

TEST_F(VocDataset, BrokenXmlIsNamed) {
  open("");
  for (const char* text : {"<annotation><object>", "<other/>", ""}) {
    data_.write("Annotations/a.xml", text);
    const Thrown thrown = thrown_by([&] { open_dataset(config_, {.fields = {.boxes = true}}); });
    EXPECT_EQ(thrown.code, 65) << text;
    EXPECT_NE(thrown.message.find("a.xml"), std::string::npos) << thrown.message;
  }
}

TEST_F(VocDataset, EntitiesAreNotExpanded) {
  data_.write("secret", "bird");
  data_.write("Annotations/a.xml", "<!DOCTYPE a [<!ENTITY x SYSTEM '" + data_.path("secret") +
                                       "'><!ENTITY y 'dog'>]><annotation>" +
                                       object("&y;", corners(1, 1, 5, 5)) +
                                       object("&x;", corners(1, 1, 5, 5)) + "</annotation>");
  const Thrown thrown = thrown_by([&] { open_dataset(config_, {.fields = {.boxes = true}}); });
  EXPECT_EQ(thrown.code, 65);
  EXPECT_NE(thrown.message.find("'&y;'"), std::string::npos) << thrown.message;
}

TEST_F(VocDataset, MissingAndDuplicateAndRefusedStems) {
  open("");
  data_.write("ImageSets/Main/train.txt", "a\nb\na\n../a\n");
  EXPECT_EQ(thrown_by([&] { open(""); }).code, 66);
  config_.on_error = OnError::kSkip;
  const auto set = open("");
  EXPECT_EQ(set->size(), 1);
  EXPECT_EQ(set->anomalies().count(AnomalyKind::kMissingFile), 1);
  EXPECT_EQ(set->anomalies().count(AnomalyKind::kDuplicateId), 1);
  EXPECT_EQ(set->anomalies().count(AnomalyKind::kRefusedName), 1);
}

TEST_F(VocDataset, SegmentationReadsThePaletteIndex) {
  data_.write("ImageSets/Segmentation/train.txt", "a\n");
  data_.write_labels("SegmentationClass/a.png", {20, 10}, 3, 255);
  const auto set = open("", {.label_map = true});
  const LabelImage map = set->label_map(0);
  EXPECT_EQ(map.pixels.front(), 3);
  EXPECT_EQ(map.pixels.back(), 255);
}

TEST_F(VocDataset, OwnClasses) {
  config_.classes = {"RBC", "WBC"};
  const auto set = open(object("WBC", corners(1, 1, 5, 5)));
  EXPECT_EQ(set->num_classes(), 3);
  EXPECT_EQ(set->sample(0).objects[0].label, 2);
}

}  // namespace
}  // namespace trainer
