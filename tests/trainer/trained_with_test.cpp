#include "trainer/trained_with.h"

#include <gmock/gmock.h>

#include "comm/error.h"
#include "trainer/config/load.h"

namespace trainer {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Config config_with(const std::vector<std::string>& overrides) {
  return parse_config("model: {name: retinanet, backbone: resnet18}\ndata: {format: shapes}\n"
                      "train: {epochs: 1}\n",
                      "a.yaml", overrides)
      .config;
}

// A checkpoint of config_with({}) whose classes are `names`.
CheckpointMeta meta_with(const ClassNames& names) {
  CheckpointMeta meta;
  for (const KeyValue& key : key_values(config_with({}))) {
    meta.config.push_back({key.key, key.value, ConfigClass::kIdentity, key.is_default});
  }
  note_classes(meta, names);
  return meta;
}

std::vector<std::string> notices(const CheckpointMeta& meta, const Config& config,
                                 const ClassNames& names) {
  std::vector<std::string> lines;
  require_same_labels(meta, config, names, [&](const std::string& line) { lines.push_back(line); });
  return lines;
}

const ClassNames kTrained = {"background", "ant", "bee", "wasp"};

TEST(TrainedWith, ClassesComeBackFromTheNote) {
  EXPECT_EQ(noted_classes(meta_with(kTrained)), kTrained);
  EXPECT_EQ(noted_classes(meta_with({"", "two\nlines", ""})), (ClassNames{"", "two lines", ""}));
  EXPECT_THAT(noted_classes(CheckpointMeta{}), IsEmpty());
}

TEST(TrainedWith, TheSameIsNoNotice) {
  EXPECT_THAT(notices(meta_with(kTrained), config_with({}), kTrained), IsEmpty());
  EXPECT_THAT(notices(CheckpointMeta{}, config_with({}), kTrained), IsEmpty());
}

// A split without the images of one class, or annotations with other category ids.
TEST(TrainedWith, AClassWithAnotherLabelIsRefused) {
  try {
    notices(meta_with(kTrained), config_with({}), {"background", "bee", "wasp", ""});
    FAIL();
  } catch (const comm::Error& error) {
    EXPECT_EQ(error.code(), comm::ExitCode::kCheckpointRefused);
    EXPECT_THAT(error.what(), HasSubstr("class \"bee\" has label 1 here and had 2 in training"));
  }
}

TEST(TrainedWith, OtherNamesAreANotice) {
  EXPECT_THAT(notices(meta_with(kTrained), config_with({}), {"background", "ant", "bumblebee", ""}),
              ElementsAre(HasSubstr("2 \"bee\" is \"bumblebee\" here")));
}

TEST(TrainedWith, OtherAnchorsAndNormalisationAreNotices) {
  const Config other = config_with({"model.anchors.sizes=[8,16,32,64,128]",
                                    "data.mean=[0,0,0]", "eval.size=[64,64]", "train.seed=7"});
  EXPECT_THAT(notices(meta_with(kTrained), other, kTrained),
              ElementsAre(AllOf(HasSubstr("warning"), HasSubstr("data.mean")),
                          AllOf(HasSubstr("warning"), HasSubstr("model.anchors.sizes"))));
}

}  // namespace
}  // namespace trainer
