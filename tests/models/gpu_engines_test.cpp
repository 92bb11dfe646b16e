// Every convolution of whole training plans, compiled for a GPU that is described and not present:
// cuDNN has an engine for each pass, and one kernel for what a convolution absorbs.
#include <gmock/gmock.h>

#include "models/ops/conv2d.h"
#include "models/ops/conv_engine.h"
#include "tests/models/golden_fixture.h"
#include "tests/models/ops/described_gpu.h"

namespace models::testing {
namespace {

struct Case {
  std::string name;
  ModelOptions options;
  BatchShape shape;
};

// As the engine binds values to a GPU, without memory.
Tensor tensor_of(const Plan& plan, Value value) {
  const PlanValue& v = plan.values[static_cast<std::size_t>(value.id)];
  const bool blocked = v.layout == Layout::kBlocked;
  return {nullptr, v.spec.type, v.spec.shape, blocked ? static_cast<int>(v.spec.shape[1]) : 1};
}

class GpuEngines : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!comm::kHasCuda) GTEST_SKIP() << "a build without cuDNN";
    library_ = describe_cudnn(kDescribedGpu);
  }

  std::unique_ptr<Kernel> compile(const Plan& plan, int node, const Conv2dOp& op) const {
    SharedState shared;
    shared.get<ConvLibrary>(kConvLibrary, [&] { return library_; });
    KernelContext context{{}, stream_.view()};
    context.training = plan.training;
    context.shared = context.engines = &shared;
    const Node& n = plan.graph->nodes()[static_cast<std::size_t>(node)];
    for (Value input : n.inputs) context.inputs.push_back(tensor_of(plan, input));
    for (Value output : n.outputs) context.outputs.push_back(tensor_of(plan, output));
    context.wants_gradient.resize(n.inputs.size());
    for (const PlanStep& step : plan.steps) {
      if (step.kind != StepKind::kBackward || step.node != node) continue;
      for (std::size_t i = 0; i < n.inputs.size(); ++i) {
        context.wants_gradient[i] = step.modes[i] != GradientMode::kNone;
      }
    }
    return compile_conv2d_gpu(op, context);
  }

  // Compiles all convolutions; returns how many there are.
  int expect_engines(const Case& c, Precision precision) const {
    SCOPED_TRACE(c.name + (precision == Precision::kBf16 ? " bf16" : " fp32"));
    Graph graph;
    make_model(c.options)->training(graph, c.shape);
    const Plan p = plan(
        graph, {.device = comm::DeviceKind::kCuda, .training = true, .precision = precision});
    int count = 0;
    for (std::size_t n = 0; n < p.graph->nodes().size(); ++n) {
      const auto* op = dynamic_cast<const Conv2dOp*>(p.graph->nodes()[n].op.get());
      if (!op) continue;
      const auto kernel = compile(p, static_cast<int>(n), *op);
      EXPECT_THAT(kernel->implementation(), ::testing::StartsWith("fwd eng"));
      EXPECT_THAT(kernel->implementation(), ::testing::Not(::testing::HasSubstr("epilogue")))
          << op->attributes() << " " << to_string(p.graph->shape(p.graph->nodes()[n].outputs[0]));
      ++count;
    }
    return count;
  }

  comm::Stream stream_{comm::Device{}, 1};
  std::shared_ptr<ConvLibrary> library_;
};

TEST_F(GpuEngines, OfRetinaNet) {
  const BatchShape shape{.images = 4, .height = 800, .width = 800, .max_boxes = 8};
  for (Precision precision : {Precision::kFp32, Precision::kBf16}) {
    for (NormKind norm : {NormKind::kFrozen, NormKind::kBatch}) {
      const Case c{"retinanet", retinanet_options("resnet50", 91, norm, 3), shape};
      // 53 of the backbone, 8 of the pyramid, 10 of the heads on 5 levels
      EXPECT_EQ(expect_engines(c, precision), 53 + 8 + 50);
    }
  }
}

TEST_F(GpuEngines, OfFcn) {
  const BatchShape shape{.images = 4, .height = 520, .width = 520};
  for (const char* head : {"dilated", "8s"}) {
    for (const char* backbone : {"resnet50", "vgg16"}) {
      if (std::string(head) == "dilated" && std::string(backbone) == "vgg16") continue;
      ModelOptions options;
      options.name = "fcn";
      options.backbone = backbone;
      options.num_classes = 21;
      options.head = head;
      const Case c{std::string(head) + " " + backbone, options, shape};
      for (Precision precision : {Precision::kFp32, Precision::kBf16}) {
        EXPECT_GT(expect_engines(c, precision), 15);
      }
    }
  }
}

}  // namespace
}  // namespace models::testing
