#include "tests/models/ops/op_fixture.h"

#include "models/graph/reorder.h"

namespace models::testing {
namespace {

// loss = sum_i r_i y_i with r_i in [-1, 1) by index of the plain order; fp64 sum.
class ProjectionKernel final : public Kernel {
 public:
  explicit ProjectionKernel(comm::StreamView stream) : stream_(stream) {}
  void forward(const KernelArgs& args) override {
    const std::vector<float> y = read(args.inputs[0]);
    const auto r = values("projection", args.inputs[0].shape.count());
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += double{r[i]} * y[i];
    write(args.outputs[0], {static_cast<float>(sum)});
  }
  void backward(const KernelArgs& args) override {
    std::vector<float> dy = read(args.dinputs[0]);
    const auto r = values("projection", args.dinputs[0].shape.count());
    const float d = read(args.doutputs[0])[0];
    for (std::size_t i = 0; i < dy.size(); ++i) {
      dy[i] = (args.modes[0] == GradientMode::kAccumulate ? dy[i] : 0.0f) + d * r[i];
    }
    write(args.dinputs[0], dy);
  }

 private:
  std::vector<float> read(const Tensor& tensor) const {
    std::vector<float> v(static_cast<std::size_t>(tensor.shape.count()));
    comm::copy_bytes(stream_, std::as_writable_bytes(std::span(v)),
                     {tensor.data, v.size() * sizeof(float)});
    stream_.synchronize();
    return v;
  }
  void write(const Tensor& tensor, const std::vector<float>& v) const {
    comm::copy_bytes(stream_, {tensor.data, v.size() * sizeof(float)},
                     std::as_bytes(std::span(v)));
    stream_.synchronize();
  }
  comm::StreamView stream_;
};

class ProjectionOp final : public Op {
 public:
  std::string name() const override { return "projection"; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec>) const override {
    return {{Type::kF32, {1}}};
  }
  LayoutRule layout() const override { return LayoutRule::kPlain; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return std::make_unique<ProjectionKernel>(context.stream);
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
