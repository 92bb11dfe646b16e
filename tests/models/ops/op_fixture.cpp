#include "tests/models/ops/op_fixture.h"

#include "models/graph/reorder.h"

namespace models::testing {
namespace {

// loss = sum_i r_i y_i with r_i in [-1, 1) by index of the plain order; fp64 sum.
class ProjectionKernel final : public Kernel {
 public:
  void forward(const KernelArgs& args) override {
    const Tensor& y = args.inputs[0];
    const auto r = values("projection", y.shape.count());
    double sum = 0;
    for (std::int64_t i = 0; i < y.shape.count(); ++i) sum += double{r[i]} * y.f32()[i];
    args.outputs[0].f32()[0] = static_cast<float>(sum);
  }
  void backward(const KernelArgs& args) override {
    const Tensor& dy = args.dinputs[0];
    const auto r = values("projection", dy.shape.count());
    const float d = args.doutputs[0].f32()[0];
    for (std::int64_t i = 0; i < dy.shape.count(); ++i) {
      dy.f32()[i] = (args.modes[0] == GradientMode::kAccumulate ? dy.f32()[i] : 0.0f) + d * r[i];
    }
  }
};

class ProjectionOp final : public Op {
 public:
  std::string name() const override { return "projection"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec>) const override {
    return {{Type::kF32, {1}}};
  }
  LayoutRule layout() const override { return LayoutRule::kPlain; }
  std::unique_ptr<Kernel> compile(const KernelContext&) const override {
    return std::make_unique<ProjectionKernel>();
  }
};

}  // namespace

void random_projection_loss(Graph& graph, Value y) {
  graph.loss("probe", graph.add(std::make_shared<ProjectionOp>(), {y})[0], 1.0f);
}

void expect_numeric_gradients(Program& program, const std::map<std::string, std::vector<float>>& at,
                              const std::vector<std::string>& variables, double tolerance,
                              double step) {
  for (const auto& [name, v] : at) program.set_parameter(name, v);
  program.run();
  std::map<std::string, std::vector<float>> analytic;
  for (const auto& name : variables) analytic[name] = program.gradient(name);
  for (const auto& name : variables) {
    std::vector<float> point = at.at(name);
    double scale = 1e-3;
    for (float g : analytic[name]) scale = std::max(scale, std::abs(double{g}));
    const std::size_t stride = std::max<std::size_t>(1, point.size() / 24);
    for (std::size_t i = 0; i < point.size(); i += stride) {
      const float x = point[i];
      point[i] = static_cast<float>(x + step);
      program.set_parameter(name, point);
      program.run();
      const double above = program.output("probe")[0];
      point[i] = static_cast<float>(x - step);
      program.set_parameter(name, point);
      program.run();
      const double below = program.output("probe")[0];
      point[i] = x;
      program.set_parameter(name, point);
      EXPECT_NEAR((above - below) / (2 * step), analytic[name][i], tolerance * scale)
          << name << "[" << i << "]";
    }
  }
}

}  // namespace models::testing
