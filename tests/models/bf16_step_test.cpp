// Whole steps in bf16 on a GPU against fp32 on the CPU, from the same weights and batch: nothing
// of a plan reads a value in another type than it was written in.
#include <numeric>

#include "comm/bf16.h"
#include "tests/models/golden_fixture.h"

namespace models::testing {
namespace {

constexpr double kLoss = 0.02;        // relative
constexpr double kNegligible = 1e-4;  // of the largest norm: a gradient that is all rounding
// Rounding moves some values across the kinks of ReLU, max pooling and L1, so a random network's
// gradients move by the root of the rounding. How much is measured: fp32 from rounded weights and
// image, which is one of the two roundings of each layer. Both together are 1.4 times as much
// noise; a step may be twice as far off, one tensor five times.
constexpr double kRoundings = 2.0;
constexpr double kOfOne = 5.0;
constexpr double kFloor = 0.01;      // relative distance that is small whatever was measured
constexpr double kSensitive = 0.35;  // beyond it a gradient says nothing

struct Case {
  std::string name;
  ModelOptions options;
  BatchShape shape;
};

ModelOptions fcn_options(const std::string& backbone, const std::string& head, NormKind norm) {
  ModelOptions options;
  options.name = "fcn";
  options.backbone = backbone;
  options.head = head;
  options.num_classes = 5;
  options.norm = norm;
  options.learned_deconvolution = true;
  options.dropout = 0.1f;
  return options;
}

std::vector<Case> cases() {
  const BatchShape boxes{.images = 2, .height = 64, .width = 64, .max_boxes = 2};
  const BatchShape pixels{.images = 2, .height = 64, .width = 64};
  const BatchShape few{.images = 2, .height = 32, .width = 32};
  return {{"retinanet_frozen", retinanet_options("resnet18", 4, NormKind::kFrozen, 5), boxes},
          {"retinanet_sync", retinanet_options("resnet18", 4, NormKind::kSync, 5), boxes},
          {"fcn_dilated", fcn_options("resnet50", "dilated", NormKind::kFrozen), few},
          {"fcn_8s", fcn_options("resnet18", "8s", NormKind::kBatch), pixels}};
}

// Fields that the graph does not have are left out.
template <typename T>
void set(Program& program, const std::string& name, const std::vector<T>& values) {
  if (program.executable().input(name)) program.set_input(name, values);
}

std::vector<float> rounded(std::vector<float> values) {
  for (float& value : values) value = comm::Bf16(value);
  return values;
}

// One step from the same values, or from rounded filters and images.
std::unique_ptr<Program> step(const Case& c, const DeviceCase& device, bool rounds = false) {
  Graph graph;
  make_model(c.options)->training(graph, c.shape);
  auto program = std::make_unique<Program>(graph, true, device);
  fill_parameters(*program, 1);
  auto image = values("image", 2 * 3 * c.shape.height * c.shape.width);
  if (rounds) {
    image = rounded(std::move(image));
    for (const ParameterSlot& slot : program->storage().layout->slots) {
      const Parameter& p = slot.parameter;
      if (p.shape.rank == 4) program->set_parameter(p.name, rounded(program->parameter(p.name)));
    }
  }
  set(*program, "image", image);
  set(*program, "boxes",
      std::vector<float>{8, 8, 40, 44, 30, 4, 60, 60, 10, 20, 50, 40, 0, 0, 0, 0});
  set(*program, "labels", std::vector<std::int32_t>{1, 2, 3, 0});
  set(*program, "count", std::vector<std::int32_t>{2, 1});
  set(*program, "sample_id", std::vector<std::int64_t>{5, 6});
  set(*program, "epoch", std::vector<std::int32_t>{0, 0});
  std::vector<std::int32_t> labels(static_cast<std::size_t>(2 * c.shape.height * c.shape.width));
  for (std::size_t i = 0; i < labels.size(); ++i) {
    labels[i] = static_cast<std::int32_t>(i / 16 % 5);
  }
  set(*program, "label_map", labels);
  program->run();
  return program;
}

double norm(const std::vector<float>& a) {
  return std::sqrt(std::inner_product(a.begin(), a.end(), a.begin(), 0.0));
}
// Relative to b's norm.
double distance(std::vector<float> a, const std::vector<float>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return norm(a) / norm(b);
}

class Bf16Step : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    for (const DeviceCase& device : devices()) {
      if (device.kind == comm::DeviceKind::kCuda) device_ = device;
    }
    if (device_.kind == comm::DeviceKind::kCpu) GTEST_SKIP() << "no GPU";
    device_.precision = Precision::kBf16;
  }
  DeviceCase device_;
};

TEST_P(Bf16Step, LossesAndGradientsAreNearThoseOfFp32) {
  const auto narrow = step(GetParam(), device_), wide = step(GetParam(), DeviceCase{});
  const auto sensitive = step(GetParam(), DeviceCase{}, true);
  for (const auto& loss : wide->executable().plan().graph->losses()) {
    const double expected = wide->output(loss.name)[0];
    EXPECT_NEAR(narrow->output(loss.name)[0], expected, kLoss * expected) << loss.name;
  }
  double largest = 0;
  const auto& slots = wide->storage().layout->slots;
  for (const ParameterSlot& slot : slots) {
    if (slot.bucket >= 0) largest = std::max(largest, norm(wide->gradient(slot.parameter.name)));
  }
  double squares = 0;
  int compared = 0;
  for (const ParameterSlot& slot : slots) {
    const std::string& name = slot.parameter.name;
    if (slot.bucket < 0 || norm(wide->gradient(name)) < largest * kNegligible) continue;
    const std::vector<float> expected = wide->gradient(name);
    const double measured = distance(sensitive->gradient(name), expected);
    const double ratio = distance(narrow->gradient(name), expected) / std::max(kFloor, measured);
    EXPECT_LT(ratio, kOfOne) << name << ", measured " << measured;
    if (measured > kSensitive) continue;
    squares += ratio * ratio;
    ++compared;
  }
  EXPECT_GT(compared, 20);
  EXPECT_LT(std::sqrt(squares / compared), kRoundings);
  RecordProperty("distance", std::to_string(std::sqrt(squares / compared)));
}

// Inference ends in fp32 whatever it computes in.
TEST_P(Bf16Step, OutputsAreFp32) {
  Graph graph;
  make_model(GetParam().options)->inference(graph, GetParam().shape);
  Program program(graph, false, device_);
  fill_parameters(program, 1);
  const BatchShape& shape = GetParam().shape;
  program.set_input("image", values("image", 2 * 3 * shape.height * shape.width));
  program.run();
  int narrow = 0;
  for (const PlanValue& value : program.executable().plan().values) {
    narrow += value.spec.type == Type::kBF16;
  }
  EXPECT_GT(narrow, 20);
  for (const auto& named : graph.outputs()) {
    const Tensor output = program.executable().output(named.name);
    EXPECT_NE(output.type, Type::kBF16) << named.name;
    if (output.type != Type::kF32) continue;
    for (float value : program.output(named.name)) ASSERT_TRUE(std::isfinite(value));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Bf16Step, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace models::testing
