// masks, mnist, folders and shapes.
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <thread>

#include "tests/trainer/data/temp_data.h"
#include "trainer/data/dataset_files.h"

namespace trainer {
namespace {

class Masks : public ::testing::Test {
 protected:
  void SetUp() override {
    config_ = data_.config(DataFormat::kMasks);
    config_.classes = {"cell"};
    config_.splits["train"] = {.images = "images", .labels = "labels"};
    for (const char* stem : {"b", "a.x", "B"}) {
      data_.write_image(std::string("images/") + stem + ".png", 8, 6);
      data_.write_labels(std::string("labels/") + stem + ".png", {8, 6}, 0, 1);
    }
  }
  std::unique_ptr<Dataset> open() { return open_dataset(config_, {.fields = {.label_map = true}}); }

  TempData data_;
  DataConfig config_;
};

TEST_F(Masks, SameStemsInByteOrder) {
  data_.write("images/notes.txt", "no image");
  data_.write("images/.hidden.png", "no image");
  const auto set = open();
  ASSERT_EQ(set->size(), 3);
  EXPECT_EQ(set->sample(0).name, "B.png");
  EXPECT_EQ(set->sample(1).name, "a.x.png");
  EXPECT_EQ(set->sample(2).name, "b.png");
  EXPECT_EQ(set->num_classes(), 2);
  EXPECT_EQ(set->label_map(0).pixels[7], 1);
}

TEST_F(Masks, PairsMustBeComplete) {
  data_.write_image("images/c.png", 8, 6);
  data_.write_labels("labels/d.png", {8, 6}, 0, 0);
  const Thrown thrown = thrown_by([&] { open(); });
  EXPECT_EQ(thrown.code, 66);
  EXPECT_NE(thrown.message.find("'c.png'"), std::string::npos) << thrown.message;
  config_.on_error = OnError::kSkip;
  const auto set = open();
  EXPECT_EQ(set->size(), 3);
  EXPECT_EQ(set->anomalies().count(AnomalyKind::kMissingFile), 1);
  EXPECT_EQ(set->anomalies().count(AnomalyKind::kUnusedLabel), 1);
}

TEST_F(Masks, SameStemTwiceIsADuplicate) {
  data_.write("images/b.jpg", "x");
  EXPECT_EQ(thrown_by([&] { open(); }).code, 65);
}

TEST_F(Masks, ListOfPairs) {
  config_.splits["train"] = {.list = "list.txt"};
  data_.write("list.txt", "images/b.png labels/b.png\n\nimages/B.png\tlabels/B.png\r\n");
  EXPECT_EQ(open()->size(), 2);
  data_.write("list.txt", "images/b.png labels/b.png extra\n");
  const Thrown thrown = thrown_by([&] { open(); });
  EXPECT_EQ(thrown.code, 65);
  EXPECT_NE(thrown.message.find("list.txt:1:"), std::string::npos) << thrown.message;
  data_.write("list.txt", "images/b.png labels/gone.png\n");
  EXPECT_EQ(thrown_by([&] { open(); }).code, 66);
  data_.write("list.txt", "images/../images/b.png labels/b.png\n");
  EXPECT_EQ(thrown_by([&] { open(); }).code, 65);
}

TEST_F(Masks, ValuesOutsideOfTheClassesAreNamed) {
  data_.write_labels("labels/b.png", {8, 6}, 0, 2);
  const auto set = open();
  EXPECT_NO_THROW(set->label_map(0));
  try {
    set->label_map(2);
    FAIL();
  } catch (const SampleError& error) {
    EXPECT_EQ(error.kind(), AnomalyKind::kLabelValue);
    EXPECT_NE(std::string(error.what()).find("value 2"), std::string::npos) << error.what();
  }
  config_.ignore = 2;  // then it is no anomaly
  EXPECT_NO_THROW(open()->label_map(2));
}

TEST_F(Masks, ClassesByNumberFromTheModel) {
  config_.classes = {};
  EXPECT_EQ(thrown_by([&] { open(); }).code, 78);
  const auto set = open_dataset(config_, {.fields = {.label_map = true}, .model_num_classes = 4});
  EXPECT_EQ(set->class_names(), (std::vector<std::string>{"1", "2", "3"}));
  EXPECT_EQ(thrown_by([&] { open_dataset(config_, {.fields = {.boxes = true}}); }).code, 78);
}

TEST_F(Masks, CityscapesTrainIds) {
  config_.classes = {};
  config_.label_map = LabelMap::kCityscapes;
  data_.write_labels("labels/B.png", {8, 6}, 7, 33);
  data_.write_labels("labels/a.x.png", {8, 6}, 4, 255);
  data_.write_labels("labels/b.png", {8, 6}, 34, 0);
  const auto set = open();
  EXPECT_EQ(set->num_classes(), 19);
  EXPECT_FALSE(set->has_background());
  EXPECT_EQ(set->class_name(0), "road");
  EXPECT_EQ(set->label_map(0).pixels.front(), 0);
  EXPECT_EQ(set->label_map(0).pixels.back(), 18);
  EXPECT_EQ(set->label_map(1).pixels.front(), 255);
  EXPECT_EQ(set->label_map(1).pixels.back(), 255);
  EXPECT_EQ(thrown_by([&] { set->label_map(2); }).code, 65);
}

std::string idx(std::vector<int> shape, const std::string& values) {
  std::string bytes = {0, 0, 8, static_cast<char>(shape.size())};
  for (const int size : shape) bytes += std::string{0, 0, 0, static_cast<char>(size)};
  return bytes + values;
}

class Mnist : public ::testing::Test {
 protected:
  void SetUp() override {
    config_ = data_.config(DataFormat::kMnist);
    config_.splits["train"] = {};
    data_.write("train-images-idx3-ubyte", idx({3, 2, 2}, "abcdefghijkl"));
    data_.write("train-labels-idx1-ubyte", idx({3}, {7, 0, 3}));
  }
  std::unique_ptr<Dataset> open() { return open_dataset(config_, {.fields = {.label = true}}); }

  TempData data_;
  DataConfig config_;
};

TEST_F(Mnist, ReadsImagesAndLabels) {
  const auto set = open();
  ASSERT_EQ(set->size(), 3);
  EXPECT_EQ(set->num_classes(), 10);
  EXPECT_EQ(set->channels(), 1);
  EXPECT_FALSE(set->has_background());
  EXPECT_EQ(set->sample(0).label, 7);
  const Image image = set->image(2).image;
  EXPECT_EQ(image.width, 2);
  EXPECT_EQ(image.rgb[0], 'i');
  EXPECT_EQ(image.rgb[11], 'l');
}

TEST_F(Mnist, OnlySomeDigitsAreNumberedAnew) {
  config_.only = {"3", "7"};
  const auto set = open();
  ASSERT_EQ(set->size(), 2);
  EXPECT_EQ(set->num_classes(), 2);
  EXPECT_EQ(set->sample(0).label, 1);
  EXPECT_EQ(set->sample(1).label, 0);
  EXPECT_EQ(set->image(1).image.rgb[0], 'i');
  config_.only = {"ten"};
  EXPECT_EQ(thrown_by([&] { open(); }).code, 78);
}

TEST_F(Mnist, GzipOfTheTestNames) {
  const std::string images = idx({1, 2, 2}, "wxyz");
  gzFile file = gzopen(data_.path("t10k-images-idx3-ubyte.gz").c_str(), "wb");
  gzwrite(file, images.data(), static_cast<unsigned>(images.size()));
  gzclose(file);
  data_.write("t10k-labels-idx1-ubyte", idx({1}, {9}));
  const auto set = open_dataset(config_, {.split = "val", .fields = {.label = true}});
  EXPECT_EQ(set->image(0).image.rgb[0], 'w');
}

TEST_F(Mnist, DamagedFiles) {
  data_.write("train-labels-idx1-ubyte", idx({2}, {7, 0}));
  EXPECT_EQ(thrown_by([&] { open(); }).code, 65);
  data_.write("train-labels-idx1-ubyte", idx({3}, {7, 0}));
  EXPECT_EQ(thrown_by([&] { open(); }).code, 65);
  data_.write("train-labels-idx1-ubyte", "");
  EXPECT_EQ(thrown_by([&] { open(); }).code, 65);
  data_.write("train-labels-idx1-ubyte", idx({3}, {7, 0, 10}));
  EXPECT_EQ(thrown_by([&] { open(); }).code, 65);
  std::filesystem::remove(data_.path("train-labels-idx1-ubyte"));
  EXPECT_EQ(thrown_by([&] { open(); }).code, 66);
  data_.write("train-labels-idx1-ubyte.gz", std::string("\x1f\x8b\x08\0\0\0\0\0\0\3 garbage", 18));
  EXPECT_EQ(thrown_by([&] { open(); }).code, 65);
}

TEST(Folders, AClassAFolder) {
  const TempData data;
  DataConfig config = data.config(DataFormat::kFolders);
  config.splits["train"] = {.images = "set"};
  data.write_image("set/dog/2.png", 4, 4);
  data.write_image("set/cat/1.png", 4, 4);
  data.write_image("set/cat/0.png", 4, 4);
  data.write("set/cat/readme.txt", "");
  const OpenOptions options = {.fields = {.label = true}};
  auto set = open_dataset(config, options);
  ASSERT_EQ(set->size(), 3);
  EXPECT_EQ(set->class_names(), (std::vector<std::string>{"cat", "dog"}));
  EXPECT_EQ(set->sample(0).name, "cat/0.png");
  EXPECT_EQ(set->sample(2).label, 1);
  config.classes = {"dog", "emu", "cat"};
  set = open_dataset(config, options);
  EXPECT_EQ(set->num_classes(), 3);
  EXPECT_EQ(set->sample(0).name, "dog/2.png");
  config.only = {"cat"};
  EXPECT_EQ(open_dataset(config, options)->size(), 2);
  config.only = {};
  config.classes = {"dog"};
  EXPECT_EQ(thrown_by([&] { open_dataset(config, options); }).code, 65);
  config.splits["train"].images = "absent";
  EXPECT_EQ(thrown_by([&] { open_dataset(config, options); }).code, 66);
}

TEST(ShapesSet, ObjectsAreTheSameHoweverTheyAreAskedFor) {
  DataConfig config;
  config.format = DataFormat::kShapes;
  config.size = {{64, 96}};
  config.splits["train"].limit = 40;
  const OpenOptions options = {.fields = {.boxes = true}};
  const auto a = open_dataset(config, options), b = open_dataset(config, options);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (std::int64_t i = 0; i < 40; ++i) a->image(i);
    });
  for (std::thread& thread : threads) thread.join();
  for (std::int64_t i = 0; i < 40; ++i) {
    const Sample &x = a->sample(i), &y = b->sample(i);
    EXPECT_EQ(x.width, 96);
    ASSERT_EQ(x.objects.size(), y.objects.size());
    ASSERT_GE(x.objects.size(), 1u);
    for (std::size_t k = 0; k < x.objects.size(); ++k)
      EXPECT_EQ(x.objects[k].box, y.objects[k].box);
  }
  EXPECT_EQ(a->fingerprint(), b->fingerprint());
  EXPECT_EQ(a->ground_truth().images.size(), 40u);
  EXPECT_EQ(a->num_classes(), 4);
  const auto val = open_dataset(config, {.split = "val", .fields = {.boxes = true}});
  EXPECT_EQ(val->size(), 128);
  EXPECT_NE(val->image(0).image.rgb, a->image(0).image.rgb);
}

// Annotation files of more than an image may have. The hash is that of the bytes in one piece.
TEST(Fingerprint, FilesOfAnySize) {
  TempData data;
  data.write("small", std::string(3 << 20, 'x') + "y");
  Fingerprint pieces, whole;
  pieces.add_file(data.path("small"));
  whole.add(std::string(3 << 20, 'x') + "y");
  EXPECT_EQ(pieces.value(), whole.value());
  data.write("large", "");
  std::filesystem::resize_file(data.path("large"), kMaxImageFileBytes + 1);  // a hole
  EXPECT_NO_THROW(pieces.add_file(data.path("large")));
  EXPECT_EQ(thrown_by([&] { pieces.add_file(data.path("none")); }).code, 66);
  EXPECT_EQ(thrown_by([&] { pieces.add_file(data.path()); }).code, 74);
}

}  // namespace
}  // namespace trainer
