// configs/regularization: what other frameworks decay, each as a file to merge.
#include <fstream>
#include <iterator>

#include "tests/trainer/articles/article_fixture.h"

namespace trainer::testing {
namespace {

struct Preset {
  const char* name;
  double weight, bias, gamma;  // what one step of lr 1 takes off 1
};
class Presets : public ::testing::TestWithParam<Preset> {};

TEST_P(Presets, TakeOffWhatTheSourceDoes) {
  std::ifstream file(RIDGELINE_SOURCE_DIR "/configs/regularization/" +
                     std::string(GetParam().name) + ".yaml");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  ASSERT_FALSE(text.empty());
  Ours ours("optimizer: {name: sgd, lr: 1}\n" + text, {{"w", 1}, {"bias", 1}, {"gamma", 1}});
  ours.step();
  EXPECT_NEAR(1 - ours.at("w"), GetParam().weight, 1e-7);
  EXPECT_NEAR(1 - ours.at("bias"), GetParam().bias, 1e-7);
  EXPECT_NEAR(1 - ours.at("gamma"), GetParam().gamma, 1e-7);
}

INSTANTIATE_TEST_SUITE_P(Frameworks, Presets,
                         ::testing::Values(Preset{"torchvision", 1e-4, 1e-4, 1e-4},
                                           Preset{"detectron2", 1e-4, 1e-4, 0},
                                           Preset{"darknet", 5e-4, 0, 0},
                                           Preset{"caffe_fcn", 5e-4, 0, 5e-4},
                                           Preset{"odtk", 1e-4, 1e-4, 1e-4}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace trainer::testing
