#include "models/ops/conv_transpose2d.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "comm/parallel.h"
#include "models/ops/resample.h"

namespace models {
namespace {

constexpr int kMaxKernel = 64;

struct Geometry {
  std::int64_t images, inputs, outputs;  // channels
  std::int64_t height, width, out_height, out_width;
  std::int64_t kernel_h, kernel_w;
  std::int64_t stride, padding, groups;
  RIDGELINE_HD std::int64_t inputs_a_group() const { return inputs / groups; }
  RIDGELINE_HD std::int64_t outputs_a_group() const { return outputs / groups; }
  RIDGELINE_HD const float* row(const float* x, std::int64_t n, std::int64_t c,
                                std::int64_t h) const {
    return x + ((n * inputs + c) * height + h) * width;
  }
  RIDGELINE_HD const float* out_row(const float* y, std::int64_t n, std::int64_t o,
                                    std::int64_t h) const {
    return y + ((n * outputs + o) * out_height + h) * out_width;
  }
  // Kernel row i of weight(c, o, :, :), o counted inside its group.
  RIDGELINE_HD const float* taps(const float* weight, std::int64_t c, std::int64_t o,
                                 std::int64_t i) const {
    return weight + ((c * outputs_a_group() + o) * kernel_h + i) * kernel_w;
  }
  // Smallest w with w stride + j - padding >= 0, and one past the largest inside y.
  RIDGELINE_HD std::int64_t first(std::int64_t j) const {
    return j >= padding ? 0 : (padding - j + stride - 1) / stride;
  }
  RIDGELINE_HD std::int64_t end(std::int64_t j) const {
    const std::int64_t reach = (out_width - 1 + padding - j) / stride + 1;
    return out_width - 1 + padding < j ? 0 : reach < width ? reach : width;
  }
};

// One row of y: (n, o, row). y(w s + j - p) = sum over c, kernel rows and j of x(w) weight(j)
struct Forward {
  Geometry g;
  const float *x, *weight;
  float* y;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t out = i % g.out_height, o = i / g.out_height % g.outputs;
    const std::int64_t n = i / g.out_height / g.outputs, group = o / g.outputs_a_group();
    float* to = y + i * g.out_width;
    for (std::int64_t w = 0; w < g.out_width; ++w) to[w] = 0.0f;
    const std::int64_t first = group * g.inputs_a_group();
    for (std::int64_t c = first; c < first + g.inputs_a_group(); ++c) {
      for (std::int64_t k = (out + g.padding) % g.stride; k < g.kernel_h; k += g.stride) {
        const std::int64_t h = (out + g.padding - k) / g.stride;
        if (out + g.padding < k || h >= g.height) continue;
        add_row(to, g.row(x, n, c, h), g.taps(weight, c, o % g.outputs_a_group(), k));
      }
    }
  }
  RIDGELINE_HD void add_row(float* to, const float* from, const float* taps) const {
    for (std::int64_t j = 0; j < g.kernel_w; ++j) {
      const float tap = taps[j];
      float* shifted = to + j - g.padding;
      const std::int64_t end = g.end(j);
      for (std::int64_t w = g.first(j); w < end; ++w) shifted[w * g.stride] += from[w] * tap;
    }
  }
};

// One row of dx: (n, c, h). dx(w) (+)= sum over o, kernel rows and j of dy(w s + j - p) weight(j)
struct BackwardData {
  Geometry g;
  const float *dy, *weight;
  float* dx;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t h = i % g.height, c = i / g.height % g.inputs;
    const std::int64_t n = i / g.height / g.inputs, group = c / g.inputs_a_group();
    float* to = dx + i * g.width;
    if (!accumulate) {
      for (std::int64_t w = 0; w < g.width; ++w) to[w] = 0.0f;
    }
    for (std::int64_t o = 0; o < g.outputs_a_group(); ++o) {
      for (std::int64_t k = 0; k < g.kernel_h; ++k) {
        const std::int64_t out = h * g.stride + k - g.padding;
        if (out < 0 || out >= g.out_height) continue;
        const float* from = g.out_row(dy, n, group * g.outputs_a_group() + o, out);
        const float* taps = g.taps(weight, c, o, k);
        for (std::int64_t j = 0; j < g.kernel_w; ++j) {
          const float tap = taps[j];
          const float* shifted = from + j - g.padding;
          const std::int64_t end = g.end(j);
          for (std::int64_t w = g.first(j); w < end; ++w) to[w] += shifted[w * g.stride] * tap;
        }
      }
    }
  }
};

// One kernel row: (c, o, k). dweight(j) (+)= sum over n, h, w of x(h, w) dy(h s + k - p, w s + j -
// p), in double
struct BackwardWeight {
  Geometry g;
  const float *x, *dy;
  float* dweight;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t k = i % g.kernel_h, o = i / g.kernel_h % g.outputs_a_group();
    const std::int64_t c = i / g.kernel_h / g.outputs_a_group();
    const std::int64_t output = c / g.inputs_a_group() * g.outputs_a_group() + o;
    double sums[kMaxKernel] = {};
    for (std::int64_t n = 0; n < g.images; ++n) {
      for (std::int64_t h = 0; h < g.height; ++h) {
        const std::int64_t out = h * g.stride + k - g.padding;
        if (out < 0 || out >= g.out_height) continue;
        add_row(sums, g.row(x, n, c, h), g.out_row(dy, n, output, out));
      }
    }
    float* to = dweight + i * g.kernel_w;
    for (std::int64_t j = 0; j < g.kernel_w; ++j) {
      const auto sum = static_cast<float>(sums[j]);
      to[j] = accumulate ? to[j] + sum : sum;
    }
  }
  RIDGELINE_HD void add_row(double* sums, const float* from, const float* dy_row) const {
    for (std::int64_t w = 0; w < g.width; ++w) {
      const std::int64_t start = w * g.stride - g.padding;
      const std::int64_t low = start < 0 ? -start : 0;
      const std::int64_t rest = g.out_width - start;
      const std::int64_t high = rest < g.kernel_w ? rest : g.kernel_w;
      const float value = from[w];
      for (std::int64_t j = low; j < high; ++j) sums[j] += double{value * dy_row[start + j]};
    }
  }
};

class ConvTransposeKernel final : public Kernel {
 public:
  ConvTransposeKernel(const KernelContext& context, const ConvTransposeAttributes& attributes)
      : stream_(context.stream) {
    const Shape &x = context.inputs[0].shape, &w = context.inputs[1].shape;
    const Shape& y = context.outputs[0].shape;
    g_ = {x[0],
          x[1],
          y[1],
          x[2],
          x[3],
          y[2],
          y[3],
          w[2],
          w[3],
          attributes.stride,
          attributes.padding,
          attributes.groups};
  }
  void forward(const KernelArgs& args) override {
    comm::parallel_for(
        stream_, g_.images * g_.outputs * g_.out_height,
        Forward{g_, args.inputs[0].f32(), args.inputs[1].f32(), args.outputs[0].f32()}, 4);
  }
  void backward(const KernelArgs& args) override {
    const float* dy = args.doutputs[0].f32();
    if (args.modes[0] != GradientMode::kNone) {
      comm::parallel_for(stream_, g_.images * g_.inputs * g_.height,
                         BackwardData{g_, dy, args.inputs[1].f32(), args.dinputs[0].f32(),
                                      args.modes[0] == GradientMode::kAccumulate},
                         4);
    }
    if (args.modes[1] != GradientMode::kNone) {
      comm::parallel_for(stream_, g_.inputs * g_.outputs_a_group() * g_.kernel_h,
                         BackwardWeight{g_, args.inputs[0].f32(), dy, args.dinputs[1].f32(),
                                        args.modes[1] == GradientMode::kAccumulate},
                         1);
    }
  }
  double forward_flops() const override {
    return 2.0 * static_cast<double>(g_.images * g_.inputs * g_.outputs_a_group() * g_.height *
                                     g_.width * g_.kernel_h * g_.kernel_w);
  }
  double backward_flops() const override { return 2.0 * forward_flops(); }

 private:
  comm::StreamView stream_;
  Geometry g_;
};

std::int64_t extent(std::int64_t x, std::int64_t kernel, const ConvTransposeAttributes& a) {
  return (x - 1) * a.stride - 2 * a.padding + kernel;
}

std::string describe(const ConvTransposeAttributes& a) {
  std::string text = fmt::format("stride {} padding {}", a.stride, a.padding);
  if (a.groups != 1) text += fmt::format(" groups {}", a.groups);
  return text;
}

class ConvTransposeOp final : public Op {
 public:
  explicit ConvTransposeOp(const ConvTransposeAttributes& attributes) : attributes_(attributes) {}
  std::string name() const override { return "conv_transpose2d"; }
  std::string attributes() const override { return describe(attributes_); }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    const Shape &x = inputs[0].shape, &w = inputs[1].shape;
    REQUIRE(x.rank == 4 && w.rank == 4 && x[1] == w[0] && w[0] % attributes_.groups == 0 &&
                w[2] <= kMaxKernel && w[3] <= kMaxKernel,
            "conv_transpose2d of {} with {} in {} groups", to_string(x), to_string(w),
            attributes_.groups);
    Shape y = {x[0], w[1] * attributes_.groups, extent(x[2], w[2], attributes_),
               extent(x[3], w[3], attributes_)};
    REQUIRE(y[2] > 0 && y[3] > 0, "conv_transpose2d of {} with {}: nothing is left", to_string(x),
            to_string(w));
    return {{Type::kF32, y}};
  }
  Saved saved() const override { return {{0, 1}, {}}; }
  LayoutRule layout() const override { return LayoutRule::kPlain; }
  PrecisionRule precision() const override { return PrecisionRule::kBf16; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    if (context.device.kind != comm::DeviceKind::kCpu) {
      return compile_conv_transpose2d_gpu(attributes_, context);
    }
    return std::make_unique<ConvTransposeKernel>(context, attributes_);
  }

 private:
  ConvTransposeAttributes attributes_;
};

class UpsampleDeconvolutionOp final : public Op {
 public:
  UpsampleDeconvolutionOp(int kernel, const ConvTransposeAttributes& attributes)
      : kernel_(kernel), attributes_(attributes) {}
  std::string name() const override { return "upsample_deconvolution"; }
  std::string attributes() const override {
    return fmt::format("kernel {} {}", kernel_, describe(attributes_));
  }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    Shape y = inputs[0].shape;
    REQUIRE(y.rank == 4 && attributes_.groups == 1, "upsample_deconvolution of {}", to_string(y));
    for (int d : {2, 3}) {
      y[d] = extent(y[d], kernel_, attributes_);
      REQUIRE(y[d] > 0, "upsample_deconvolution of {}: nothing is left",
              to_string(inputs[0].shape));
    }
    return {{Type::kF32, y}};
  }
  LayoutRule layout() const override { return LayoutRule::kPlain; }
  PrecisionRule precision() const override { return PrecisionRule::kFollow; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    const Shape &x = context.inputs[0].shape, &y = context.outputs[0].shape;
    return make_resample(context, band(x[2], y[2]), band(x[3], y[3]));
  }

 private:
  // Entry (i, h) is tap i + p - h s of the kernel, where it exists.
  Band band(std::int64_t in, std::int64_t out) const {
    const std::vector<float> taps = bilinear_kernel(kernel_);
    Band rows;
    for (std::int64_t i = 0; i < out; ++i) {
      const std::int64_t at = i + attributes_.padding;
      const std::int64_t past = at - kernel_;  // the first source lies after it
      const std::int64_t low = past < 0 ? 0 : past / attributes_.stride + 1;
      const std::int64_t high = std::min(at / attributes_.stride, in - 1);
      std::vector<float> entries;
      for (std::int64_t h = low; h <= high; ++h) {
        entries.push_back(taps[static_cast<std::size_t>(at - h * attributes_.stride)]);
      }
      rows.add_row(entries.empty() ? 0 : low, entries);
    }
    return rows;
  }
  int kernel_;
  ConvTransposeAttributes attributes_;
};

}  // namespace

Value conv_transpose2d(Graph& graph, Value x, Value weight,
                       const ConvTransposeAttributes& attributes) {
  return graph.add(std::make_shared<ConvTransposeOp>(attributes), {x, weight})[0];
}

Value upsample_deconvolution(Graph& graph, Value x, int kernel,
                             const ConvTransposeAttributes& attributes) {
  return graph.add(std::make_shared<UpsampleDeconvolutionOp>(kernel, attributes), {x})[0];
}

std::vector<float> bilinear_kernel(int kernel) {
  const double factor = (kernel + 1) / 2;
  const double center = kernel % 2 == 1 ? factor - 1 : factor - 0.5;
  std::vector<float> taps;
  for (int i = 0; i < kernel; ++i) {
    taps.push_back(static_cast<float>(1 - std::abs(i - center) / factor));
  }
  return taps;
}

}  // namespace models
