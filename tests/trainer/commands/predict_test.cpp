#include "trainer/commands/predict.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "comm/communicator_local.h"
#include "tests/trainer/commands/command_fixture.h"
#include "trainer/agree.h"
#include "trainer/checkpoint/store.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/commands/image_list.h"
#include "trainer/commands/score.h"
#include "trainer/data/shapes.h"
#include "trainer/evaluation.h"
#include "trainer/network.h"
#include "trainer/report/pictures.h"
#include "trainer/weights.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

// Fresh weights as the checkpoint of a run: an untrained detector finds something everywhere when
// every score counts.
const std::vector<std::string> kEverything = {"eval.score_threshold=0.001", "eval.detections=5",
                                              "train.micro_batch=2", "runtime.threads=1"};

// FCN-8s whose class k is the k-th feature of stride 8: label maps that change from cell to cell.
void compare_features(models::ParameterStorage& storage) {
  for (const char* name : {"score_fr", "score_pool4", "score_pool3"}) {
    const models::Tensor weight = storage.parameter(std::string(name) + ".weight");
    const std::int64_t inputs = weight.shape[1];
    std::fill_n(weight.f32(), weight.shape.count(), 0.0f);
    if (name != std::string("score_pool3")) continue;
    for (std::int64_t k = 0; k < weight.shape[0]; ++k) weight.f32()[k * inputs + k % inputs] = 1;
  }
}

void save_fresh_weights(const Config& config, const fs::path& run, int num_classes = 4,
                        int channels = 3) {
  const auto communicator = comm::single_communicator();
  const comm::Stream stream(comm::Device{}, 1);
  Network network(config, num_classes, channels, stream, {1, false});
  initialize(network.storage(), 1);
  if (config.model.name == ModelName::kFcn) compare_features(network.storage());
  const std::int64_t counter = 1;
  Snapshot snapshot;
  snapshot.meta.step = 1;
  snapshot.model = model_arrays(network.layout(), network.storage().parameters.bytes(),
                                network.counters(), counter);
  CheckpointStore(run, *communicator).save_final(snapshot);
}

class Predict : public testing::Test {
 protected:
  void SetUp() override {
    config_ = small_config(kEverything);
    save_fresh_weights(config_, folder_ / "run");
    for (int i = 0; i < 3; ++i) {
      const fs::path file = folder_ / ("image" + std::to_string(i) + ".png");
      write_png(file, draw_shapes(1, i, 60 + 20 * i, 80).image);
      files_.push_back(file);
    }
  }
  std::vector<Prediction> predict(comm::Communicator& communicator, const std::string& out) {
    comm::Progress progress;
    return run_predict(config_, {folder_ / "run", folder_ / out, files_}, communicator, progress);
  }

  ScratchFolder folder_;
  Config config_;
  std::vector<std::string> files_;
};

TEST_F(Predict, WritesDetectionsAndPictures) {
  const auto communicator = comm::single_communicator();
  const auto predictions = predict(*communicator, "out");
  ASSERT_EQ(predictions.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(predictions[i].width, 60 + 20 * static_cast<int>(i));
    EXPECT_EQ(predictions[i].height, 80);
    EXPECT_FALSE(predictions[i].answers.empty());
    const Image picture = read_image(folder_ / ("out/image" + std::to_string(i) + ".png"));
    EXPECT_EQ(picture.width, predictions[i].width);
    for (const Answer& f : predictions[i].answers) {
      EXPECT_GE(f.box[0], 0);
      EXPECT_LE(f.box[2], predictions[i].width);
      EXPECT_LE(f.box[3], predictions[i].height);
    }
  }
  std::ifstream file(folder_ / "out/predictions.json");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const rapidjson::Document json = parse_json(text);
  ASSERT_EQ(json["images"].Size(), 3u);
  const auto& first = json["images"][0];
  EXPECT_EQ(first["file"].GetString(), files_[0]);
  EXPECT_EQ(first["detections"].Size(), predictions[0].answers.size());
  EXPECT_THAT(std::string(first["detections"][0]["class"].GetString()),
              testing::AnyOf("circle", "rectangle", "triangle"));
  EXPECT_EQ(first["detections"][0]["box"].Size(), 4u);
}

TEST_F(Predict, TheSameOnTwoRanks) {
  const auto alone = comm::single_communicator();
  const auto one = predict(*alone, "one");
  std::vector<Prediction> two;
  comm::run_local(2, [&](comm::Communicator& communicator) {
    const auto mine = predict(communicator, "two");
    if (communicator.rank() == 0) two = mine;
  });
  const auto json = [](const std::vector<Prediction>& predictions) {
    return predictions_json(models::Task::kDetection, predictions, {"", "a", "b", "c"});
  };
  EXPECT_EQ(json(one), json(two));
  EXPECT_TRUE(fs::exists(folder_ / "two/image2.png"));
}

TEST_F(Predict, MissingAndBrokenImagesAreNamed) {
  const auto communicator = comm::single_communicator();
  files_ = {folder_ / "nothing.png"};
  try {
    predict(*communicator, "out");
    FAIL();
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), comm::ExitCode::kInputMissing);
    EXPECT_THAT(e.what(), HasSubstr("nothing.png"));
  }
  std::ofstream(folder_ / "broken.png") << "not an image";
  files_ = {folder_ / "broken.png"};
  try {
    predict(*communicator, "out");
    FAIL();
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), comm::ExitCode::kData);
    EXPECT_THAT(e.what(), HasSubstr("broken.png"));
  }
}

TEST_F(Predict, AnImageIsNeverOverwritten) {
  const auto communicator = comm::single_communicator();
  const Image before = read_image(files_[0]);
  try {
    predict(*communicator, "");
    FAIL();
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), comm::ExitCode::kUsage);
    EXPECT_THAT(e.what(), HasSubstr("image0.png' would be overwritten"));
  }
  EXPECT_EQ(read_image(files_[0]).rgb, before.rgb);
}

TEST_F(Predict, WhatCannotBeReadIsMarked) {
  config_.data.on_error = OnError::kSkip;
  std::ofstream(folder_ / "broken.png") << "not an image";
  files_.insert(files_.begin() + 1, folder_ / "broken.png");
  for (const int ranks : {1, 2}) {
    comm::run_local(ranks, [&](comm::Communicator& communicator) { predict(communicator, "out"); });
    std::ifstream file(folder_ / "out/predictions.json");
    const rapidjson::Document json =
        parse_json(std::string(std::istreambuf_iterator<char>(file), {}));
    ASSERT_EQ(json["images"].Size(), 4u);
    const auto& broken = json["images"][1];
    EXPECT_THAT(broken["left_out"].GetString(), HasSubstr("broken.png"));
    EXPECT_FALSE(broken.HasMember("picture"));
    EXPECT_EQ(broken["detections"].Size(), 0u);
    EXPECT_FALSE(json["images"][2].HasMember("left_out"));
    EXPECT_GT(json["images"][2]["detections"].Size(), 0u);
    EXPECT_FALSE(fs::exists(folder_ / "out/broken.png"));
  }
  config_.data.skip_limit = 0;
  const auto communicator = comm::single_communicator();
  EXPECT_THROW(predict(*communicator, "out"), AgreedError);
}

// Two images of 70x50 and 100x50 with label maps of three classes and something to ignore.
class PredictLabelMaps : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"images", "labels"}) fs::create_directories(folder_ / name);
    for (int i = 0; i < 2; ++i) {
      const Image image = draw_shapes(1, i, 70 + 30 * i, 50).image;
      LabelImage truth{image.width, image.height, {}};
      for (int p = 0; p < image.width * image.height; ++p) {
        truth.pixels.push_back(p % 7 == 0 ? 255 : static_cast<std::uint16_t>(p % 3));
      }
      const std::string name = "image" + std::to_string(i) + ".png";
      files_.push_back(folder_ / ("images/" + name));
      write_png(files_.back(), image);
      write_label_png(folder_ / ("labels/" + name), truth, voc_palette());
    }
  }
  Config config(int num_classes) const {
    return small_config(
        {"model={name: fcn, backbone: resnet18, head: 8s}", "train.micro_batch=1",
         "model.num_classes=" + std::to_string(num_classes),
         "data={format: masks, root: " + (folder_ / "").string() +
             ", train: {images: images, labels: labels}, val: {images: images, labels: labels}, "
             "size: [64, 96]}"});
  }
  std::vector<Prediction> predict(const Config& config) const {
    const auto communicator = comm::single_communicator();
    comm::Progress progress;
    return run_predict(config, {folder_ / "run", folder_ / "out", files_}, *communicator, progress);
  }
  // Writes the label maps as `eval` does. The metrics are rank 0's.
  Metrics evaluate_on(int ranks, const Config& config, const fs::path& label_maps) const {
    fs::create_directories(label_maps);
    Metrics metrics;
    comm::run_local(ranks, [&](comm::Communicator& communicator) {
      const comm::Stream stream(comm::Device{}, 1);
      Network network(config, *config.model.num_classes, 3, stream, {ranks, false});
      const auto notify = [](const std::string&) {};
      load_weights(network.storage(),
                   open_weights(folder_ / "run", false, communicator, notify).tensors, {});
      const auto val = open_dataset(config.data, {.split = "val",
                                                  .fields = {.label_map = true},
                                                  .model_num_classes = *config.model.num_classes});
      comm::Progress progress;
      const Evaluation evaluation =
          evaluate({config, network, *val, communicator, progress, 1, 0, label_maps});
      if (communicator.rank() == 0) metrics = evaluation.metrics;
    });
    return metrics;
  }

  ScratchFolder folder_;
  std::vector<std::string> files_;
};

// At the original size of each image, which is not the network's.
TEST_F(PredictLabelMaps, AreWhatEvaluationWritesAndScores) {
  const Config config = this->config(3);
  save_fresh_weights(config, folder_ / "run", 3);
  const auto predictions = predict(config);
  EXPECT_EQ(predictions[1].label_map, "predictions/image1.png");
  EXPECT_GT(predictions[1].answers.size(), 1u) << "one class everywhere tells nothing";
  for (const int ranks : {1, 2}) {
    const fs::path out = folder_ / ("eval-" + std::to_string(ranks));
    const Metrics metrics = evaluate_on(ranks, config, out / "predictions");
    for (std::size_t i = 0; i < files_.size(); ++i) {
      const LabelImage labels = read_label_image(folder_ / "out" / predictions[i].label_map);
      EXPECT_EQ(labels.width, 70 + 30 * static_cast<int>(i));
      EXPECT_EQ(labels.pixels,
                read_label_image(out / ("predictions/image" + std::to_string(i) + ".png")).pixels);
    }
    for (const fs::path& written : {folder_ / "out", out, out / "predictions"}) {
      const Metrics scored = score_labels({folder_ / "labels", written, 3, 255});
      for (const char* metric : {"pixel_accuracy", "mIoU", "per_class/1"}) {
        const std::string path = std::string("semantic/") + metric;
        ASSERT_NE(metrics.find(path), nullptr);
        EXPECT_EQ(*scored.find(path), *metrics.find(path)) << path << " of " << written;
      }
    }
  }
}

TEST_F(PredictLabelMaps, OfMoreClassesThanAPaletteHoldsAre16Bit) {
  const Config config = this->config(300);
  save_fresh_weights(config, folder_ / "run", 300);
  const auto predictions = predict(config);
  const fs::path file = folder_ / "out" / predictions[0].label_map;
  EXPECT_EQ(probe_image(file).encoding, "PNG gray 16 bit");
  const LabelImage labels = read_label_image(file);
  double counted = 0, shared = 0;
  for (const Answer& answer : predictions[0].answers) {
    shared += answer.score;
    counted += static_cast<double>(std::count(labels.pixels.begin(), labels.pixels.end(),
                                              static_cast<std::uint16_t>(answer.label)));
  }
  EXPECT_EQ(counted, 70 * 50);
  EXPECT_NEAR(shared, 1, 1e-5);
  EXPECT_NO_THROW(score_labels({folder_ / "labels", folder_ / "out", 300, 255}));
}

// The road of Cityscapes is class 0 and no background.
TEST_F(PredictLabelMaps, PaintClassZeroWhereItIsNoBackground) {
  for (const bool cityscapes : {false, true}) {
    Config config = this->config(19);
    if (cityscapes) config.data.label_map = LabelMap::kCityscapes;
    save_fresh_weights(config, folder_ / "run", 19);
    const auto predictions = predict(config);
    const LabelImage labels = read_label_image(folder_ / "out" / predictions[0].label_map);
    const Image shown = read_image(folder_ / "out" / predictions[0].picture);
    const Image expected =
        overlay_labels(read_image(files_[0]), labels, {.has_background = !cityscapes});
    EXPECT_EQ(shown.rgb, expected.rgb);
  }
}

// A network of one channel reads any image file as gray.
TEST(PredictClasses, OfAGrayNetwork) {
  const ScratchFolder folder;
  const Config config = small_config(
      {"model={name: mlp, layers: [784, 8, 10]}", "data={format: mnist, size: [28, 28]}"});
  save_fresh_weights(config, folder / "run", 10, 1);
  const std::string file = folder / "digit.png";
  write_png(file, draw_shapes(1, 0, 60, 40).image);
  const auto communicator = comm::single_communicator();
  comm::Progress progress;
  const auto predictions =
      run_predict(config, {folder / "run", folder / "out", {file}}, *communicator, progress);
  ASSERT_EQ(predictions[0].answers.size(), 5u);
  EXPECT_GE(predictions[0].answers[0].score, predictions[0].answers[1].score);
  EXPECT_EQ(predictions[0].width, 60);
}

TEST(PredictWords, AreOverridesOrImages) {
  const ScratchFolder folder;
  const std::string odd = folder / "a=b.png";
  std::ofstream(odd.c_str()) << "x";
  const PredictWords words = divide_words({"a.jpg", "eval.nms=0.6", odd, "dir/x=1.jpg"});
  EXPECT_THAT(words.overrides, ElementsAre("eval.nms=0.6"));
  EXPECT_THAT(words.images, ElementsAre("a.jpg", odd, "dir/x=1.jpg"));
}

}  // namespace
}  // namespace trainer
