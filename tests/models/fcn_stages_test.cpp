// The paper trains 32s, 16s and 8s one after the other: a new skip starts at zero, so that a stage
// goes on from the function of the one before.
#include <algorithm>
#include <cmath>

#include "tests/models/golden_fixture.h"

namespace models::testing {
namespace {

constexpr std::int64_t kClasses = 3;

// Weights by name, so that heads share what they have in common; zero skips.
void fill(ParameterStorage& storage) {
  for (const ParameterSlot& slot : storage.layout->slots) {
    const std::string& name = slot.parameter.name;
    const Shape& shape = slot.parameter.shape;
    float center = 0, scale = 0.1f;
    if (shape.rank > 1) scale = 1.5f / std::sqrt(static_cast<float>(slot.size / shape[0]));
    if (shape.rank == 1 && !name.ends_with("bias") && !name.ends_with("mean")) center = 1;
    if (name.starts_with("score_pool")) scale = 0;
    auto random = static_cast<std::uint32_t>(std::hash<std::string>()(name));
    float* to = storage.parameter(name).f32();
    for (std::int64_t i = 0; i < slot.size; ++i) {
      random = random * 1664525u + 1013904223u;
      to[i] = center + scale * (static_cast<float>(random >> 8) / (1 << 23) - 1.0f);
    }
  }
}

// (classes, size, size) of an image of that size.
std::vector<float> scores(const std::string& backbone, const std::string& head, std::int64_t size) {
  ModelOptions options;
  options.name = "fcn";
  options.backbone = backbone;
  options.head = head;
  options.num_classes = static_cast<int>(kClasses);
  Graph graph;
  make_model(options)->inference(graph, {.images = 1, .height = size, .width = size});
  Program program(graph, false, DeviceCase{});
  fill(program.storage());
  program.set_input("image", values("image", static_cast<std::size_t>(3 * size * size)));
  program.run();
  return program.output("out");
}

struct Case {
  const char* backbone;
  std::int64_t size;
  double knot;              // where a score of 32s lies: pixel knot + 32 k
  std::int64_t begin, end;  // pixels with scores on both sides
};
class FcnStages : public ::testing::TestWithParam<Case> {};

// 8s doubles twice before it interpolates, which cuts the corners that bilinear interpolation has
// at the scores of 32s, and those of 16s. Between them the functions are equal.
TEST_P(FcnStages, ZeroSkipsContinueTheSameFunction) {
  const Case c = GetParam();
  const std::vector<float> coarse = scores(c.backbone, "32s", c.size);
  const std::vector<float> fine = scores(c.backbone, "8s", c.size);
  const auto near_corner = [&](std::int64_t pixel) {
    const auto distance = [&](double period, double from) {
      return std::abs(std::remainder(static_cast<double>(pixel) - from, period));
    };
    return distance(32, c.knot) < 8 || distance(16, c.knot - 8) < 4;
  };
  double largest = 0, worst = 0, cut = 0;
  int compared = 0;
  for (std::int64_t k = 0; k < kClasses; ++k) {
    for (std::int64_t y = c.begin; y < c.end; ++y) {
      for (std::int64_t x = c.begin; x < c.end; ++x) {
        const auto at = static_cast<std::size_t>((k * c.size + y) * c.size + x);
        const double difference = std::abs(double{coarse[at]} - fine[at]);
        largest = std::max(largest, std::abs(double{coarse[at]}));
        const bool corner = near_corner(y) || near_corner(x);
        double& worst_of = corner ? cut : worst;
        worst_of = std::max(worst_of, difference);
        compared += !corner;
      }
    }
  }
  EXPECT_GE(compared, 64 * kClasses);
  EXPECT_GT(largest, 0.01);
  EXPECT_LT(worst, 1e-5 * largest);
  EXPECT_GT(cut, worst);
  EXPECT_LT(cut, 0.5 * largest);
}

INSTANTIATE_TEST_SUITE_P(Backbones, FcnStages,
                         ::testing::Values(Case{"resnet18", 128, 15.5, 16, 112},
                                           Case{"vgg16", 40, 12.5, 13, 40}),
                         [](const auto& info) { return std::string(info.param.backbone); });

}  // namespace
}  // namespace models::testing
