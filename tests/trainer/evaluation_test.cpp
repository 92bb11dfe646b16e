#include "trainer/evaluation.h"

#include <gmock/gmock.h>

#include <cmath>

#include "comm/communicator_local.h"
#include "tests/trainer/commands/command_fixture.h"
#include "trainer/weights.h"

namespace trainer {
namespace {

using ::testing::HasSubstr;

// Two images of 40x30 with label maps; the second one's lies down instead.
struct Masks {
  Masks() {
    std::filesystem::create_directories(folder / "images");
    std::filesystem::create_directories(folder / "labels");
    Image image{40, 30, std::vector<std::uint8_t>(40 * 30 * 3, 100)};
    for (const std::string name : {"a.png", "b.png"}) {
      write_png(folder / ("images/" + name), image);
      LabelImage labels{40, 30, std::vector<std::uint16_t>(40 * 30, 1)};
      if (name == "b.png") std::swap(labels.width, labels.height);
      write_label_png(folder / ("labels/" + name), labels, voc_palette());
    }
  }
  Config config(const std::string& more) const {
    return small_config({"model={name: fcn, backbone: resnet18, head: 32s, num_classes: 2}",
                         "data={format: masks, root: " + (folder / "").string() +
                             ", train: {images: images, labels: labels}, size: [32, 32]" + more +
                             "}"});
  }
  ScratchFolder folder;
};

Evaluation evaluate_fresh(const Config& config) {
  const comm::Stream stream(comm::Device{}, 1);
  const auto data =
      open_dataset(config.data, {.fields = {.label_map = true}, .model_num_classes = 2});
  Network network(config, num_classes_for(config, *data), 3, stream, {1, false});
  initialize(network.storage(), 1);
  const auto communicator = comm::single_communicator();
  comm::Progress progress;
  return evaluate({config, network, *data, *communicator, progress});
}

TEST(EvaluationOfLabelMaps, AnotherSizeIsNamed) {
  const Masks masks;
  try {
    evaluate_fresh(masks.config(""));
    FAIL();
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), comm::ExitCode::kData);
    EXPECT_THAT(e.what(), HasSubstr("b.png"));
  }
}

TEST(EvaluationOfLabelMaps, BadOnesAreLeftOutWhereAsked) {
  const Masks masks;
  const Evaluation evaluation = evaluate_fresh(masks.config(", on_error: skip"));
  const double* accuracy = evaluation.metrics.find("semantic/pixel_accuracy");
  ASSERT_NE(accuracy, nullptr);
  EXPECT_TRUE(std::isfinite(*accuracy));
}

// What is trained at one size is evaluated at those of eval.size: feeding refuses any other.
TEST(Evaluation, HasSizesOfItsOwn) {
  const Config config = small_config({"eval.size=[[96,64],[64,128]]"});
  const comm::Stream stream(comm::Device{}, 1);
  const auto data = open_dataset(config.data, {.fields = {.boxes = true}});
  Network network(config, num_classes_for(config, *data), 3, stream, {1, true});
  const auto size_of = [](models::Executable& executable) {
    const models::Shape& shape = executable.input("image").shape;
    return InputSize{static_cast<int>(shape[2]), static_cast<int>(shape[3])};
  };
  EXPECT_EQ(size_of(network.training(0)), config.data.size[0]);
  EXPECT_EQ(size_of(network.inference(0)), (InputSize{96, 64}));
  EXPECT_EQ(size_of(network.inference(1)), (InputSize{64, 128}));
  initialize(network.storage(), 1);
  const auto communicator = comm::single_communicator();
  comm::Progress progress;
  const Evaluation evaluation = evaluate({config, network, *data, *communicator, progress});
  EXPECT_NE(evaluation.metrics.find("bbox/AP"), nullptr);
}

TEST(NumClasses, FewerThanTheDataHaveAreRefused) {
  const auto num_classes = [](const std::vector<std::string>& overrides) {
    const Config config = small_config(overrides);
    return num_classes_for(config, *open_dataset(config.data, {.fields = {.boxes = true}}));
  };
  EXPECT_EQ(num_classes({}), 4);
  EXPECT_EQ(num_classes({"model.num_classes=9"}), 9);
  try {
    num_classes({"model.num_classes=3"});
    FAIL();
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), comm::ExitCode::kConfig);
    EXPECT_THAT(e.what(), HasSubstr("model.num_classes: 3 classes for data with 4"));
  }
}

TEST(Evaluation, NoMetricToChooseByIsNone) {
  const auto communicator = comm::single_communicator();
  EXPECT_TRUE(std::isnan(shared_metric({}, "", *communicator)));
}

}  // namespace
}  // namespace trainer
