#include "models/ops/cross_entropy.h"

#include <fmt/format.h>

#include "comm/parallel.h"
#include "models/graph/element.h"
#include "models/ops/fast_math.h"

namespace models {
namespace {

// Logits as the loss walks them: pixel i = (n, cell) holds class k at start(i) + offset(k).
struct Pixels {
  std::int64_t classes, cells;
  int block;
  RIDGELINE_HD std::int64_t blocks() const { return (classes + block - 1) / block; }
  RIDGELINE_HD std::int64_t start(std::int64_t i) const {
    return (i / cells * blocks() * cells + i % cells) * block;
  }
  RIDGELINE_HD std::int64_t offset(std::int64_t k) const {
    return k / block * cells * block + k % block;
  }
};

struct Labels {
  const std::int32_t* label;  // (N, H, W)
  std::int32_t classes, ignore;
  RIDGELINE_HD bool valid(std::int64_t i) const {
    return label[i] != ignore && label[i] >= 0 && label[i] < classes;
  }
};

struct CountValid {
  Labels labels;
  RIDGELINE_HD double operator()(std::int64_t i) const { return labels.valid(i) ? 1.0 : 0.0; }
};

// The largest logit of a pixel and the sum of e^(x - largest).
struct Partition {
  float largest, sum;
};
template <typename T>
RIDGELINE_HD Partition partition(const T* x, const Pixels& at) {
  Partition z{x[0], 0.0f};
  for (std::int64_t k = 1; k < at.classes; ++k) {
    const float v = x[at.offset(k)];
    z.largest = v > z.largest ? v : z.largest;
  }
  for (std::int64_t k = 0; k < at.classes; ++k) {
    z.sum += exp_of_negative(x[at.offset(k)] - z.largest);
  }
  return z;
}

// log sum e^x - (1 - e) x_t - e mean x
template <typename T>
struct Forward {
  Pixels at;
  Labels labels;
  const T* x;
  float smoothing;
  RIDGELINE_HD double operator()(std::int64_t i) const {
    if (!labels.valid(i)) return 0.0;
    const T* pixel = x + at.start(i);
    const Partition z = partition(pixel, at);
    const double chosen = float{pixel[at.offset(labels.label[i])]};
    double mean = 0.0;
    if (smoothing > 0.0f) {
      for (std::int64_t k = 0; k < at.classes; ++k) mean += pixel[at.offset(k)];
      mean /= static_cast<double>(at.classes);
    }
    const double e = smoothing;
    return std::log(static_cast<double>(z.sum)) + z.largest - (1.0 - e) * chosen - e * mean;
  }
};

// dx_k (+)= (p_k - (1 - e) [k = t] - e / K) scale dloss
template <typename T>
struct Backward {
  Pixels at;
  Labels labels;
  const T* x;
  const float *scale, *dloss;
  T* dx;
  float smoothing;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t start = at.start(i), padded = at.blocks() * at.block;
    const bool valid = labels.valid(i);
    if (!valid && accumulate) return;
    const float factor = *scale * *dloss;
    const Partition z = valid ? partition(x + start, at) : Partition{0.0f, 1.0f};
    const float even = smoothing / static_cast<float>(at.classes);
    for (std::int64_t k = 0; k < padded; ++k) {
      const std::int64_t e = start + at.offset(k);
      float d = 0.0f;
      if (valid && k < at.classes) {
        const float target = (k == labels.label[i] ? 1.0f - smoothing : 0.0f) + even;
        d = (exp_of_negative(x[e] - z.largest) / z.sum - target) * factor;
      }
      dx[e] = accumulate ? dx[e] + d : d;
    }
  }
};

// loss = total scale; scale = 1 / valid pixels, or 1 / images
struct Finish {
  const double* totals;  // loss, valid pixels
  float *loss, *scale;
  std::int64_t images;
  bool sum;
  RIDGELINE_HD void operator()(std::int64_t) const {
    const double count = sum ? static_cast<double>(images) : totals[1];
    const double factor = count > 0.0 ? 1.0 / count : 0.0;
    *loss = static_cast<float>(totals[0] * factor);
    *scale = static_cast<float>(factor);
  }
};

template <typename T>
class CrossEntropyKernel final : public Kernel {
 public:
  CrossEntropyKernel(const CrossEntropyAttributes& attributes, const KernelContext& context)
      : attributes_(attributes), stream_(context.stream) {
    pixels_ = context.inputs[1].shape.count();
  }
  std::int64_t workspace_bytes() const override {
    return (comm::num_reduce_blocks(pixels_) + 2) * static_cast<std::int64_t>(sizeof(double));
  }
  void forward(const KernelArgs& args) override {
    auto* totals = reinterpret_cast<double*>(args.workspace.data());
    const std::span<double> sums(totals + 2,
                                 static_cast<std::size_t>(comm::num_reduce_blocks(pixels_)));
    const Tensor& x = args.inputs[0];
    comm::parallel_reduce(stream_, pixels_,
                          Forward<T>{walk(x), labels(args), x.as<T>(), attributes_.label_smoothing},
                          sums, {totals, 1});
    if (!attributes_.sum) {
      comm::parallel_reduce(stream_, pixels_, CountValid{labels(args)}, sums, {totals + 1, 1});
    }
    comm::parallel_for(
        stream_, 1,
        Finish{totals, args.outputs[0].f32(), args.outputs[1].f32(), x.shape[0], attributes_.sum});
  }
  void backward(const KernelArgs& args) override {
    const Tensor& x = args.inputs[0];
    comm::parallel_for(
        stream_, pixels_,
        Backward<T>{walk(x), labels(args), x.as<T>(), args.outputs[1].f32(),
                    args.doutputs[0].f32(), args.dinputs[0].as<T>(), attributes_.label_smoothing,
                    args.modes[0] == GradientMode::kAccumulate},
        512);
  }

 private:
  static Pixels walk(const Tensor& x) {
    return {x.shape[1], x.shape[2] * x.shape[3], x.channel_block};
  }
  Labels labels(const KernelArgs& args) const {
    return {args.inputs[1].as<const std::int32_t>(),
            static_cast<std::int32_t>(args.inputs[0].shape[1]), attributes_.ignore};
  }
  CrossEntropyAttributes attributes_;
  comm::StreamView stream_;
  std::int64_t pixels_ = 0;
};

// Outputs: the loss, and the factor of a pixel in it.
class CrossEntropyOp final : public Op {
 public:
  explicit CrossEntropyOp(const CrossEntropyAttributes& attributes) : attributes_(attributes) {}
  std::string name() const override { return "cross_entropy"; }
  std::string attributes() const override {
    std::string text = fmt::format("ignore {}", attributes_.ignore);
    if (attributes_.label_smoothing > 0.0f) {
      text += fmt::format(" smoothing {:g}", attributes_.label_smoothing);
    }
    return text + (attributes_.sum ? " sum" : " mean");
  }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    const Shape &x = inputs[0].shape, &labels = inputs[1].shape;
    REQUIRE(x.rank == 4 && inputs[1].type == Type::kI32 && labels[0] == x[0] &&
                labels.count() * x[1] == x.count(),
            "cross_entropy of {} with labels {}", to_string(x), to_string(labels));
    return {{Type::kF32, {1}}, {Type::kF32, {1}}};
  }
  bool differentiable(int input) const override { return input == 0; }
  Saved saved() const override { return {{0, 1}, {1}}; }
  LayoutRule layout() const override { return LayoutRule::kAny; }
  PrecisionRule precision() const override { return PrecisionRule::kReads; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return make_kernel<CrossEntropyKernel>(context.inputs[0].type, attributes_, context);
  }

 private:
  CrossEntropyAttributes attributes_;
};

}  // namespace

Value cross_entropy(Graph& graph, Value logits, Value labels,
                    const CrossEntropyAttributes& attributes) {
  return graph.add(std::make_shared<CrossEntropyOp>(attributes), {logits, labels})[0];
}

}  // namespace models
