#include "models/ops/linear.h"

#include <algorithm>

#include "comm/threads.h"
#include "models/ops/elementwise.h"
#include "models/ops/onednn.h"

namespace models {
namespace {

// A row-major matrix; `transposed` says how a product reads it.
struct Matrix {
  const float* data;
  std::int64_t stride;
  bool transposed = false;
};

// c = a b, or c += a b.  a: (rows, inner), b: (inner, columns), c: (rows, columns)
void multiply(const Matrix& a, const Matrix& b, const Shape& extents, float* c,
              std::int64_t c_stride, bool adds) {
  // oneDNN splits a product by the number of threads it may use, which would decide bits: it gets
  // one, and the pieces of a layer are cut by its size alone.
  const comm::OneThread one;
  const dnnl_status_t status = dnnl_sgemm(
      a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', extents[0], extents[2], extents[1], 1.0f,
      a.data, a.stride, b.data, b.stride, adds ? 1.0f : 0.0f, c, c_stride);
  REQUIRE(status == dnnl_success, "oneDNN status {}", static_cast<int>(status));
}

// Rows or columns a thread takes at once: whole vectors, at most 64 pieces.
std::int64_t piece(std::int64_t extent) {
  const std::int64_t even = comm::num_blocks(comm::num_blocks(extent, 64), 16) * 16;
  return std::max<std::int64_t>(32, even);
}

class LinearOneDnn final : public Kernel {
 public:
  explicit LinearOneDnn(const KernelContext& context)
      : stream_(context.stream),
        n_(context.inputs[0].shape[0]),
        i_(context.inputs[1].shape[1]),
        o_(context.inputs[1].shape[0]) {
    for (bool wanted : context.wants_gradient) num_gradients_ += wanted;
  }

  double forward_flops() const override { return 2.0 * n_ * i_ * o_; }
  double backward_flops() const override { return forward_flops() * std::min(num_gradients_, 2); }
  std::string implementation() const override { return "dnnl_sgemm"; }

  void forward(const KernelArgs& args) override {
    const float *x = args.inputs[0].f32(), *w = args.inputs[1].f32(), *b = args.inputs[2].f32();
    float* y = args.outputs[0].f32();
    comm::parallel_for_blocks(stream_, o_, piece(o_),
                              [=, this](std::int64_t begin, std::int64_t end) {
                                multiply({x, i_}, {w + begin * i_, i_, true}, {n_, i_, end - begin},
                                         y + begin, o_, false);
                                for (std::int64_t n = 0; n < n_; ++n)
                                  for (std::int64_t o = begin; o < end; ++o) y[n * o_ + o] += b[o];
                              });
  }

  // dw = dy^T x;  db = sum_n dy;  dx = dy w
  void backward(const KernelArgs& args) override {
    const float* dy = args.doutputs[0].f32();
    if (args.modes[0] != GradientMode::kNone) give_dx(args, dy);
    if (args.modes[1] != GradientMode::kNone) give_dw(args, dy);
    if (args.modes[2] != GradientMode::kNone) give_db(args, dy);
  }

 private:
  void give_dx(const KernelArgs& args, const float* dy) {
    const float* w = args.inputs[1].f32();
    float* dx = args.dinputs[0].f32();
    const bool adds = args.modes[0] == GradientMode::kAccumulate;
    comm::parallel_for_blocks(
        stream_, i_, piece(i_), [=, this](std::int64_t begin, std::int64_t end) {
          multiply({dy, o_}, {w + begin, i_}, {n_, o_, end - begin}, dx + begin, i_, adds);
        });
  }
  void give_dw(const KernelArgs& args, const float* dy) {
    const float* x = args.inputs[0].f32();
    float* dw = args.dinputs[1].f32();
    const bool adds = args.modes[1] == GradientMode::kAccumulate;
    comm::parallel_for_blocks(stream_, o_, piece(o_),
                              [=, this](std::int64_t begin, std::int64_t end) {
                                multiply({dy + begin, o_, true}, {x, i_}, {end - begin, n_, i_},
                                         dw + begin * i_, i_, adds);
                              });
  }
  void give_db(const KernelArgs& args, const float* dy) {
    float* db = args.dinputs[2].f32();
    const bool adds = args.modes[2] == GradientMode::kAccumulate;
    comm::parallel_for(stream_, o_, [=, this](std::int64_t o) {
      double sum = 0;
      for (std::int64_t n = 0; n < n_; ++n) sum += dy[n * o_ + o];
      db[o] = (adds ? db[o] : 0.0f) + static_cast<float>(sum);
    });
  }

  comm::StreamView stream_;
  std::int64_t n_, i_, o_;
  int num_gradients_ = 0;
};

}  // namespace

Value linear(Graph& graph, Value x, Value weight, Value bias) {
  return graph.add(std::make_shared<LinearOp>(), {x, weight, bias})[0];
}

std::vector<ValueSpec> LinearOp::infer(std::span<const ValueSpec> inputs) const {
  const Shape &x = inputs[0].shape, &w = inputs[1].shape, &b = inputs[2].shape;
  REQUIRE(x.rank == 2 && w.rank == 2 && x[1] == w[1], "linear of {} with {}", to_string(x),
          to_string(w));
  REQUIRE(b == Shape{w[0]}, "bias {} for {}", to_string(b), to_string(w));
  return {{Type::kF32, {x[0], w[0]}}};
}

std::unique_ptr<Kernel> LinearOp::compile(const KernelContext& context) const {
  if (context.device.kind != comm::DeviceKind::kCpu) return compile_linear_gpu(context);
  return std::make_unique<LinearOneDnn>(context);
}

}  // namespace models
