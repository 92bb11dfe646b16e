// Whole steps in bf16 on a GPU against fp32 on the CPU, from the same weights and batch: nothing
// of a plan reads a value in another type than it was written in.
#include <numeric>

#include "tests/models/golden_fixture.h"

namespace models::testing {
namespace {

constexpr double kLoss = 0.02;        // relative
constexpr double kCosine = 0.99;      // of each parameter's gradient
constexpr double kNegligible = 1e-4;  // of the largest norm: a gradient that is all rounding

struct Case {
  std::string name;
  ModelOptions options;
  BatchShape shape;
};

ModelOptions fcn_options(const std::string& backbone, const std::string& head) {
  ModelOptions options;
  options.name = "fcn";
  options.backbone = backbone;
  options.head = head;
  options.num_classes = 5;
  options.norm = NormKind::kFrozen;
  options.learned_deconvolution = true;
  return options;
}

std::vector<Case> cases() {
  const BatchShape boxes{.images = 2, .height = 64, .width = 64, .max_boxes = 2};
  const BatchShape pixels{.images = 2, .height = 64, .width = 64};
  return {{"retinanet_frozen", retinanet_options("resnet18", 4, NormKind::kFrozen, 5), boxes},
          {"retinanet_group", retinanet_options("resnet18", 4, NormKind::kGroup, 5), boxes},
          {"retinanet_batch", retinanet_options("resnet18", 4, NormKind::kBatch, 5), boxes},
          {"retinanet_sync", retinanet_options("resnet18", 4, NormKind::kSync, 5), boxes},
          {"fcn_dilated", fcn_options("resnet50", "dilated"), pixels},
          {"fcn_8s", fcn_options("vgg16", "8s"), pixels}};
}

// Fields that the graph does not have are left out.
template <typename T>
void set(Program& program, const std::string& name, const std::vector<T>& values) {
  if (program.executable().input(name)) program.set_input(name, values);
}

std::unique_ptr<Program> step(const Case& c, const DeviceCase& device) {
  Graph graph;
  make_model(c.options)->training(graph, c.shape);
  auto program = std::make_unique<Program>(graph, true, device);
  fill_parameters(*program, 1);
  set(*program, "image", values("image", 2 * 3 * c.shape.height * c.shape.width));
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

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
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
  for (const auto& loss : wide->executable().plan().graph->losses()) {
    const double expected = wide->output(loss.name)[0];
    EXPECT_NEAR(narrow->output(loss.name)[0], expected, kLoss * expected) << loss.name;
  }
  double largest = 0;
  const auto& slots = wide->storage().layout->slots;
  for (const ParameterSlot& slot : slots) {
    if (slot.bucket < 0) continue;
    const auto g = wide->gradient(slot.parameter.name);
    largest = std::max(largest, dot(g, g));
  }
  int compared = 0;
  for (const ParameterSlot& slot : slots) {
    if (slot.bucket < 0) continue;
    const std::string& name = slot.parameter.name;
    const auto a = narrow->gradient(name), b = wide->gradient(name);
    const double aa = dot(a, a), bb = dot(b, b);
    ASSERT_TRUE(std::isfinite(aa)) << name;
    if (bb < largest * kNegligible * kNegligible) continue;
    EXPECT_GT(dot(a, b) / std::sqrt(aa * bb), kCosine) << name;
    EXPECT_NEAR(std::sqrt(aa / bb), 1.0, 0.1) << name;
    ++compared;
  }
  EXPECT_GT(compared, 20);
}

// Inference ends in fp32 whatever it computes in.
TEST_P(Bf16Step, OutputsAreFp32) {
  Graph graph;
  make_model(GetParam().options)->inference(graph, GetParam().shape);
  Program program(graph, false, device_);
  fill_parameters(program, 1);
  program.set_input("image", values("image", 2 * 3 * 64 * 64));
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
