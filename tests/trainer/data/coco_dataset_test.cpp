#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/data/temp_data.h"

namespace trainer {
namespace {

struct File {
  std::string images = R"({"id":7,"file_name":"a.png","width":8,"height":6},
                          {"id":3,"file_name":"b.png","width":8,"height":6})";
  std::string annotations = R"({"id":1,"image_id":7,"category_id":9,"bbox":[1,1,4,3],"area":12,
    "iscrowd":0,"segmentation":[[1,1,5,1,5,4,1,4]]})";
  std::string categories = R"({"id":9,"name":"dog"},{"id":2,"name":"cat"})";
};

class CocoDataset : public ::testing::Test {
 protected:
  void SetUp() override {
    data_.write_image("images/a.png", 8, 6);
    data_.write_image("images/b.png", 8, 6);
    config_ = data_.config(DataFormat::kCoco);
    config_.splits["train"] = {.images = "images", .annotations = "train.json"};
  }
  std::unique_ptr<Dataset> open(const File& file, const Fields& fields = {.boxes = true}) {
    data_.write("train.json", "{\"images\":[" + file.images + "],\"annotations\":[" +
                                  file.annotations + "],\"categories\":[" + file.categories + "]}");
    return open_dataset(config_, {.fields = fields});
  }
  static std::string box(const std::string& bbox, const std::string& rest = "") {
    return R"({"id":1,"image_id":7,"category_id":9,"iscrowd":0,"bbox":)" + bbox + rest + "}";
  }

  TempData data_;
  DataConfig config_;
};

TEST_F(CocoDataset, NumbersClassesInIdOrder) {
  const auto set = open({});
  ASSERT_EQ(set->size(), 2);
  EXPECT_EQ(set->class_names(), (std::vector<std::string>{"cat", "dog"}));
  EXPECT_EQ(set->num_classes(), 3);
  const Sample& a = set->sample(0);
  EXPECT_EQ(a.image_id, 7);
  ASSERT_EQ(a.objects.size(), 1u);
  EXPECT_EQ(a.objects[0].label, 2);
  EXPECT_EQ(a.objects[0].box, (Corners{1, 1, 5, 4}));
  EXPECT_EQ(set->category_id(2), 9);
  EXPECT_EQ(set->class_name(0), "background");
  EXPECT_EQ(set->class_name(1), "cat");
  EXPECT_TRUE(set->sample(1).objects.empty());
  EXPECT_TRUE(set->anomalies().empty());
}

TEST_F(CocoDataset, IdsAsClassIndices) {
  config_.label_map = LabelMap::kIds;
  const auto set = open({});
  EXPECT_EQ(set->num_classes(), 10);
  EXPECT_EQ(set->sample(0).objects[0].label, 9);
  EXPECT_EQ(set->class_name(5), "");
  EXPECT_EQ(set->category_id(5), -1);
}

TEST_F(CocoDataset, RepairsAreCountedAndNeverStop) {
  File file;
  file.annotations = box("[-2,1,5,9]") + "," +
                     R"({"id":2,"image_id":7,"category_id":9,"bbox":[1,1,0,4]},
                        {"id":3,"image_id":7,"category_id":9,"bbox":[20,1,3,4]},
                        {"id":4,"image_id":7,"category_id":9,"bbox":[1,1,3,3],"iscrowd":1,
                         "segmentation":{"size":[6,8],"counts":[0,48]}},
                        {"id":5,"image_id":7,"category_id":9,"bbox":[0,0,8.0000000001,6]})";
  const auto set = open(file);
  EXPECT_EQ(set->anomalies().count(AnomalyKind::kBoxClipped), 1);
  EXPECT_EQ(set->anomalies().count(AnomalyKind::kBoxWithoutArea), 2);
  EXPECT_EQ(set->anomalies().count(AnomalyKind::kCrowd), 1);
  const auto& objects = set->sample(0).objects;
  ASSERT_EQ(objects.size(), 5u);
  EXPECT_EQ(objects[0].box, (Corners{0, 1, 3, 6}));
  EXPECT_TRUE(objects[0].trained);
  for (const int i : {1, 2, 3}) EXPECT_FALSE(objects[static_cast<std::size_t>(i)].trained) << i;
  // The evaluator sees boxes as they are written.
  EXPECT_EQ(set->ground_truth().annotations[0].bbox, (std::array<double, 4>{-2, 1, 5, 9}));
}

struct Wrong {
  const char* name;
  AnomalyKind kind;
  int code;
  const char* images;
  const char* annotations;
  const char* categories;
};
class CocoErrors : public CocoDataset, public ::testing::WithParamInterface<Wrong> {};

TEST_P(CocoErrors, StopOrSkip) {
  File file;
  if (GetParam().images) file.images += GetParam().images;
  if (GetParam().annotations) file.annotations += GetParam().annotations;
  if (GetParam().categories) file.categories += GetParam().categories;
  const Thrown thrown = thrown_by([&] { open(file); });
  EXPECT_EQ(thrown.code, GetParam().code) << thrown.message;
  EXPECT_NE(thrown.message.find(anomaly_name(GetParam().kind)), std::string::npos)
      << thrown.message;
  EXPECT_EQ(thrown.message.find('\n'), std::string::npos);
  config_.on_error = OnError::kSkip;
  const auto set = open(file);
  EXPECT_EQ(set->anomalies().count(GetParam().kind), 1);
  EXPECT_EQ(set->anomalies().num_errors(), 1);
  EXPECT_EQ(set->size(), 2);
  EXPECT_EQ(set->sample(0).objects.size(), 1u);
  const CocoAnnotations truth = set->ground_truth();
  EXPECT_EQ(truth.annotations.size(), 1u);
  EXPECT_EQ(truth.categories.size(), 2u);
  config_.skip_limit = 0;
  EXPECT_EQ(thrown_by([&] { open(file); }).code, GetParam().code);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, CocoErrors,
    ::testing::Values(
        Wrong{"Nan", AnomalyKind::kMalformed, 65, nullptr,
              R"(,{"id":2,"image_id":7,"category_id":9,"bbox":[1,null,4,3]})", nullptr},
        Wrong{"ThreeNumbers", AnomalyKind::kMalformed, 65, nullptr,
              R"(,{"id":2,"image_id":7,"category_id":9,"bbox":[1,4,3]})", nullptr},
        Wrong{"NegativeWidth", AnomalyKind::kMalformed, 65, nullptr,
              R"(,{"id":2,"image_id":7,"category_id":9,"bbox":[1,1,-4,3]})", nullptr},
        Wrong{"NoBox", AnomalyKind::kMalformed, 65, nullptr,
              R"(,{"id":2,"image_id":7,"category_id":9})", nullptr},
        Wrong{"FlagOfNoKind", AnomalyKind::kMalformed, 65, nullptr,
              R"(,{"id":2,"image_id":7,"category_id":9,"bbox":[1,1,4,3],"iscrowd":"x"})", nullptr},
        Wrong{"NoId", AnomalyKind::kMalformed, 65, nullptr,
              R"(,{"image_id":7,"category_id":9,"bbox":[1,1,4,3]})", nullptr},
        Wrong{"UnknownCategory", AnomalyKind::kUnknownId, 65, nullptr,
              R"(,{"id":2,"image_id":7,"category_id":333,"bbox":[1,1,4,3]})", nullptr},
        Wrong{"UnknownImage", AnomalyKind::kUnknownId, 65, nullptr,
              R"(,{"id":2,"image_id":70,"category_id":9,"bbox":[1,1,4,3]})", nullptr},
        Wrong{"DuplicateAnnotation", AnomalyKind::kDuplicateId, 65, nullptr,
              R"(,{"id":1,"image_id":7,"category_id":9,"bbox":[1,1,4,3]})", nullptr},
        Wrong{"DuplicateImage", AnomalyKind::kDuplicateId, 65,
              R"(,{"id":7,"file_name":"b.png","width":8,"height":6})", nullptr, nullptr},
        Wrong{"DuplicateCategory", AnomalyKind::kDuplicateId, 65, nullptr, nullptr,
              R"(,{"id":9,"name":"cow"})"},
        Wrong{"MissingFile", AnomalyKind::kMissingFile, 66,
              R"(,{"id":8,"file_name":"gone.png","width":8,"height":6})", nullptr, nullptr},
        Wrong{"ParentFolder", AnomalyKind::kRefusedName, 65,
              R"(,{"id":8,"file_name":"../images/a.png","width":8,"height":6})", nullptr, nullptr},
        Wrong{"AbsolutePath", AnomalyKind::kRefusedName, 65,
              R"(,{"id":8,"file_name":"/etc/passwd","width":8,"height":6})", nullptr, nullptr}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(CocoDataset, TooManyBoxesNameTheImage) {
  File file;
  file.annotations += R"(,{"id":2,"image_id":7,"category_id":9,"bbox":[1,1,2,2]})";
  config_.max_boxes = 1;
  config_.on_error = OnError::kSkip;
  const Thrown thrown = thrown_by([&] { open(file); });
  EXPECT_EQ(thrown.code, 65);
  EXPECT_NE(thrown.message.find("'a.png': 2 boxes"), std::string::npos) << thrown.message;
  EXPECT_NO_THROW(open(file, {.label_map = true}));
}

TEST_F(CocoDataset, NoBoxAtAllIsLegalButNoImageIsNot) {
  File file;
  file.annotations = "";
  EXPECT_EQ(open(file)->size(), 2);
  file.images = "";
  EXPECT_EQ(thrown_by([&] { open(file); }).code, 65);
}

TEST_F(CocoDataset, LimitKeepsTheFirstImages) {
  config_.splits["train"].limit = 1;
  File file;
  file.annotations += R"(,{"id":2,"image_id":3,"category_id":9,"bbox":[1,1,2,2]})";
  const auto set = open(file);
  EXPECT_EQ(set->size(), 1);
  EXPECT_EQ(set->ground_truth().annotations.size(), 1u);
  EXPECT_TRUE(set->anomalies().empty());
}

TEST_F(CocoDataset, SizeMismatchIsFoundOnDecoding) {
  File file;
  file.images = R"({"id":7,"file_name":"a.png","width":6,"height":8})";
  const auto set = open(file);
  try {
    set->image(0);
    FAIL();
  } catch (const SampleError& error) {
    EXPECT_EQ(error.kind(), AnomalyKind::kSizeMismatch);
    EXPECT_NE(std::string(error.what()).find("8x6"), std::string::npos) << error.what();
  }
}

TEST_F(CocoDataset, UnannotatedSizeComesFromTheFile) {
  for (const char* size : {"", R"(,"width":0,"height":0)"}) {
    File file;
    file.images = fmt::format(R"({{"id":7,"file_name":"a.png"{}}})", size);
    const auto set = open(file);
    EXPECT_EQ(set->sample(0).width, 8);
    EXPECT_EQ(set->sample(0).height, 6);
  }
}

TEST_F(CocoDataset, LabelMapFromMasks) {
  File file;  // a 4x3 dog at (1, 1), a cat over its last column and beyond, a crowd below
  file.annotations += R"(,{"id":2,"image_id":7,"category_id":2,"bbox":[4,1,2,3],
      "segmentation":[[4,1,6,1,6,4,4,4]]},
     {"id":3,"image_id":7,"category_id":2,"bbox":[0,5,8,1],"iscrowd":1,
      "segmentation":{"size":[6,8],"counts":[5,1,5,1,5,1,5,1,5,1,5,1,5,1,5,1]}})";
  const auto set = open(file, {.label_map = true});
  const LabelImage map = set->label_map(0);
  ASSERT_EQ(map.width, 8);
  const auto row = [&](int y) {
    return std::vector<int>(map.pixels.begin() + 8 * y, map.pixels.begin() + 8 * (y + 1));
  };
  EXPECT_EQ(row(0), (std::vector<int>{0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(row(2), (std::vector<int>{0, 2, 2, 2, 255, 1, 0, 0}));
  EXPECT_EQ(row(5), std::vector<int>(8, 255));
}

// A crowd and a box without area are repaired, with a mask or without.
TEST_F(CocoDataset, MasksAreMissedWhereThereIsSomethingToPaint) {
  File file;
  file.annotations += R"(,{"id":2,"image_id":7,"category_id":2,"bbox":[4,1,2,3],"iscrowd":1},
                          {"id":3,"image_id":7,"category_id":2,"bbox":[4,1,0,3]})";
  const LabelImage painted = open(file, {.label_map = true})->label_map(0);
  EXPECT_EQ(std::ranges::count(painted.pixels, 2), 12);
  file.annotations += R"(,{"id":5,"image_id":3,"category_id":2,"bbox":[4,1,2,3]})";
  EXPECT_NO_THROW(open(file));
  const Thrown thrown = thrown_by([&] { open(file, {.label_map = true}); });
  EXPECT_EQ(thrown.code, 65);
  EXPECT_THAT(thrown.message, ::testing::HasSubstr("annotation 5 of image 3: malformed annotation"
                                                   ": no segmentation"));
  config_.on_error = OnError::kSkip;
  const auto set = open(file, {.label_map = true});
  EXPECT_EQ(set->anomalies().num_errors(), 1);
  EXPECT_EQ(std::ranges::count(set->label_map(1).pixels, 0), 48);
}

TEST_F(CocoDataset, ABrokenMaskIsNamed) {
  File file;
  file.annotations = box("[1,1,4,3]", R"(,"segmentation":[[1,1,5,1]])");
  const auto set = open(file, {.label_map = true});
  EXPECT_THAT(thrown_by([&] { set->label_map(0); }).message,
              ::testing::HasSubstr("'a.png': annotation 1: polygon of 4 numbers"));
}

// Annotations name neither of two, so their ids do.
TEST_F(CocoDataset, CategoriesOfOneNameAreToldApart) {
  File file;
  file.categories = R"({"id":9,"name":"b"},{"id":2,"name":"cat"},{"id":4,"name":"b"})";
  const auto set = open(file);
  EXPECT_EQ(set->class_names(), (std::vector<std::string>{"cat", "b (4)", "b (9)"}));
  EXPECT_EQ(set->ground_truth().categories.back().name, "b (9)");
  config_.only = {"b"};
  const Thrown thrown = thrown_by([&] { open(file); });
  EXPECT_EQ(thrown.code, 78);
  EXPECT_THAT(thrown.message, ::testing::HasSubstr("'cat, b (4), b (9)'"));
  config_.only = {"b (9)"};
  EXPECT_EQ(open(file)->sample(0).objects.size(), 1u);
}

// As torchvision's references/segmentation does with VOC's 20 classes of COCO's.
TEST_F(CocoDataset, OnlySomeCategoriesInAnOrderOfOnesOwn) {
  config_.only = {"dog", "bird"};
  File file;  // dog at columns 1..4, cat at 4..5, bird at 6..7
  file.categories += R"(,{"id":4,"name":"bird"})";
  file.annotations += R"(,{"id":2,"image_id":7,"category_id":2,"bbox":[4,1,2,3],
      "segmentation":[[4,1,6,1,6,4,4,4]]},
     {"id":3,"image_id":7,"category_id":4,"bbox":[6,1,2,3],
      "segmentation":[[6,1,8,1,8,4,6,4]]})";
  const auto set = open(file, {.boxes = true, .label_map = true});
  EXPECT_EQ(set->class_names(), config_.only);
  EXPECT_EQ(set->num_classes(), 3);
  EXPECT_EQ(set->category_id(1), 9);
  EXPECT_EQ(set->category_id(2), 4);
  const LabelImage map = set->label_map(0);
  EXPECT_EQ(std::vector<int>(map.pixels.begin() + 16, map.pixels.begin() + 24),
            (std::vector<int>{0, 1, 1, 1, 1, 0, 2, 2}));
  ASSERT_EQ(set->sample(0).objects.size(), 2u);
  EXPECT_EQ(set->sample(0).objects[1].label, 2);
  EXPECT_TRUE(set->anomalies().empty());
  const CocoAnnotations truth = set->ground_truth();
  EXPECT_EQ(truth.categories.size(), 2u);
  EXPECT_EQ(truth.annotations.size(), 2u);
  const std::uint64_t first = set->fingerprint();
  config_.only = {"bird", "dog"};
  EXPECT_NE(open(file)->fingerprint(), first);
}

TEST_F(CocoDataset, OnlyNamesEachCategoryOnce) {
  config_.only = {"dog", "doge"};
  EXPECT_THAT(thrown_by([&] { open({}); }).message, ::testing::HasSubstr("'doge' is no category"));
  config_.only = {"dog", "dog"};
  EXPECT_THAT(thrown_by([&] { open({}); }).message, ::testing::HasSubstr("'dog' is given twice"));
  config_.only = {"dog"};
  config_.label_map = LabelMap::kIds;
  EXPECT_EQ(thrown_by([&] { open({}); }).code, 78);
}

TEST_F(CocoDataset, FingerprintFollowsTheAnnotationsNotThePlace) {
  const std::uint64_t first = open({})->fingerprint();
  EXPECT_EQ(open({})->fingerprint(), first);
  File file;
  file.annotations = box("[1,1,4,3.5]");
  EXPECT_NE(open(file)->fingerprint(), first);
  TempData copy;
  std::filesystem::copy(data_.path(), copy.path("set"), std::filesystem::copy_options::recursive);
  open({});
  std::filesystem::copy(data_.path("train.json"), copy.path("set/train.json"),
                        std::filesystem::copy_options::overwrite_existing);
  config_.root = copy.path("set");
  EXPECT_EQ(open_dataset(config_, {.fields = {.boxes = true}})->fingerprint(), first);
}

TEST_F(CocoDataset, ClassesMustBeThoseOfTheOtherSplit) {
  const auto a = open({});
  File file;
  file.categories = R"({"id":2,"name":"dog"},{"id":9,"name":"cat"})";
  const auto b = open(file);
  EXPECT_NO_THROW(require_same_classes(*a, *a));
  const Thrown thrown = thrown_by([&] { require_same_classes(*a, *b); });
  EXPECT_EQ(thrown.code, 65);
  EXPECT_NE(thrown.message.find("'cat'"), std::string::npos);
}

TEST_F(CocoDataset, ConfigurationErrors) {
  EXPECT_EQ(thrown_by([&] { open({}, {.label = true}); }).code, 78);
  config_.classes = {"dog", "cat"};
  EXPECT_EQ(thrown_by([&] { open({}); }).code, 78);
  config_.classes = {"cat", "dog"};
  EXPECT_NO_THROW(open({}));
  EXPECT_EQ(thrown_by([&] { open_dataset(config_, {.split = "nope"}); }).code, 78);
  config_.splits["train"].annotations = "";
  EXPECT_EQ(thrown_by([&] { open({}); }).code, 78);
  config_.splits["train"].annotations = "absent.json";
  EXPECT_EQ(thrown_by([&] { open({}); }).code, 66);
}

}  // namespace
}  // namespace trainer
