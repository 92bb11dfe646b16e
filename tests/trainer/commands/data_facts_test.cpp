#include "trainer/commands/data_facts.h"

#include <gmock/gmock.h>

#include <fstream>

#include "comm/error.h"
#include "tests/trainer/commands/command_fixture.h"

namespace trainer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Config config_of(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return parse_config(text + "train: {epochs: 1}\n", "facts.yaml", overrides).config;
}

constexpr const char* kCoco = "data: {format: coco, train: {images: ., annotations: gt.json}}\n";

TEST(DataFacts, ConfigurationSaysTheClasses) {
  EXPECT_EQ(configured_num_classes(config_of(kCoco, {"model.num_classes=91"})), 91);
  EXPECT_EQ(configured_num_classes(config_of(kCoco)), std::nullopt);
  EXPECT_EQ(configured_num_classes(small_config()), 4);  // three shapes and the background
  const Config mlp = config_of(
      "model: {name: mlp, layers: [784, 10]}\n"
      "data: {format: mnist}\n");
  EXPECT_EQ(configured_num_classes(mlp), 10);
  const Config fcn = config_of(
      "model: {name: fcn, backbone: resnet18, head: 8s}\n"
      "data: {format: masks, train: {list: a.txt}, classes: [cat, dog]}\n");
  EXPECT_EQ(configured_num_classes(fcn), 3);
}

TEST(DataFacts, BuiltInSetIsReadWithoutFiles) {
  const DataFacts facts = data_facts(small_config());
  EXPECT_EQ(facts.num_images, 8);
  EXPECT_EQ(facts.num_classes, 4);
  EXPECT_THAT(facts.class_names, ElementsAre("background", "circle", "rectangle", "triangle"));
  EXPECT_EQ(facts.absent, "");
}

TEST(DataFacts, MissingAnnotationsLeaveEpochsUnknownAndClassesByNumber) {
  const DataFacts facts =
      data_facts(config_of(kCoco, {"model.num_classes=3", "data.root=/nowhere"}));
  EXPECT_EQ(facts.num_images, std::nullopt);
  EXPECT_THAT(facts.class_names, ElementsAre("background", "1", "2"));
  EXPECT_THAT(facts.absent, HasSubstr("/nowhere"));
}

TEST(DataFacts, NobodyKnowsTheClasses) {
  try {
    data_facts(config_of(kCoco, {"data.root=/nowhere"}));
    FAIL();
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), comm::ExitCode::kConfig);
    EXPECT_THAT(e.what(), HasSubstr("model.num_classes"));
  }
}

TEST(DataFacts, AnnotationsSayTheClasses) {
  const ScratchFolder folder;
  std::ofstream(folder / "a.png") << "not decoded";
  std::ofstream(folder / "gt.json")
      << R"({"images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}],
            "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
            "annotations": []})";
  const DataFacts facts = data_facts(config_of(kCoco, {"data.root=" + (folder / "").string()}));
  EXPECT_EQ(facts.num_images, 1);
  EXPECT_EQ(facts.num_classes, 3);
  EXPECT_THAT(facts.class_names, ElementsAre("background", "cat", "dog"));
}

}  // namespace
}  // namespace trainer
