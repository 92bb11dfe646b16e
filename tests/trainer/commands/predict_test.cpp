#include "trainer/commands/predict.h"

#include <gmock/gmock.h>

#include <fstream>
#include <iterator>

#include "comm/communicator_local.h"
#include "tests/trainer/commands/command_fixture.h"
#include "trainer/agree.h"
#include "trainer/checkpoint/store.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/commands/image_list.h"
#include "trainer/data/shapes.h"
#include "trainer/evaluation.h"
#include "trainer/network.h"
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

void save_fresh_weights(const Config& config, const fs::path& run, int num_classes = 4,
                        int channels = 3) {
  const auto communicator = comm::single_communicator();
  const comm::Stream stream(comm::Device{}, 1);
  Network network(config, num_classes, channels, stream, 1, false);
  initialize(network.storage(), 1);
  const std::int64_t counter = 1;
  Snapshot snapshot;
  snapshot.meta.step = 1;
  snapshot.model =
      model_arrays(network.layout(), network.storage().parameters, network.counters(), counter);
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

// Evaluation scores at the original size of each image, which is not the network's, what `predict`
// writes: pixel accuracy from the two label images by hand.
TEST(PredictLabelMaps, AreWhatEvaluationScores) {
  const ScratchFolder folder;
  fs::create_directories(folder / "images");
  fs::create_directories(folder / "labels");
  std::vector<std::string> files;
  std::vector<LabelImage> truths;
  for (int i = 0; i < 2; ++i) {
    const Image image = draw_shapes(1, i, 70 + 30 * i, 50).image;
    LabelImage truth{image.width, image.height, {}};
    for (int p = 0; p < image.width * image.height; ++p) {
      truth.pixels.push_back(p % 7 == 0 ? 255 : static_cast<std::uint16_t>(p % 3));
    }
    const std::string name = "image" + std::to_string(i) + ".png";
    files.push_back(folder / ("images/" + name));
    write_png(files.back(), image);
    write_label_png(folder / ("labels/" + name), truth, voc_palette());
    truths.push_back(truth);
  }
  const Config config = small_config(
      {"model={name: fcn, backbone: resnet18, head: 8s, num_classes: 3}", "train.micro_batch=2",
       "data={format: masks, root: " + (folder / "").string() +
           ", train: {images: images, labels: labels}, val: {images: images, labels: labels}, "
           "size: [64, 96]}"});
  save_fresh_weights(config, folder / "run", 3);
  const auto communicator = comm::single_communicator();
  comm::Progress progress;
  const auto predictions =
      run_predict(config, {folder / "run", folder / "out", files}, *communicator, progress);
  double right = 0, counted = 0;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const LabelImage labels = read_label_image(folder / "out" / predictions[i].label_map);
    ASSERT_EQ(labels.pixels.size(), truths[i].pixels.size());
    for (std::size_t p = 0; p < labels.pixels.size(); ++p) {
      if (truths[i].pixels[p] == 255) continue;
      counted += 1;
      right += labels.pixels[p] == truths[i].pixels[p];
    }
  }
  const comm::Stream stream(comm::Device{}, 1);
  Network network(config, 3, 3, stream, 1, false);
  const auto notify = [](const std::string&) {};
  load_weights(network.storage(),
               open_weights(folder / "run", false, *communicator, notify).tensors, {});
  const auto val = open_dataset(
      config.data, {.split = "val", .fields = {.label_map = true}, .model_num_classes = 3});
  const Evaluation evaluation = evaluate({config, network, *val, *communicator, progress});
  const double* accuracy = evaluation.metrics.find("semantic/pixel_accuracy");
  ASSERT_NE(accuracy, nullptr);
  EXPECT_DOUBLE_EQ(*accuracy, right / counted);
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

TEST(PictureNames, AreNumberedWhereStemsRepeat) {
  EXPECT_THAT(picture_names({"x/cat.jpg", "y/cat.png", "cat-2.jpg", "dog.jpg"}),
              ElementsAre("cat", "cat-2", "cat-2-2", "dog"));
}

}  // namespace
}  // namespace trainer
