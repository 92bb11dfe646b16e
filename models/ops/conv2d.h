#pragma once

#include <optional>

#include "models/graph/graph.h"
#include "models/ops/folding.h"

namespace models {

struct ConvAttributes {
  int stride = 1;
  int padding = 0;
  int dilation = 1;
  int groups = 1;
};

// y(n, o, h, w) = sum_{i, r, s} x(n, i, h stride + r dilation - padding, ...) weight(o, i, r, s)
//   x: (N, I, H, W), weight: (O, I / groups, R, S), bias: (O); y: (N, O, H', W')
Value conv2d(Graph& graph, Value x, Value weight, std::optional<Value> bias,
             const ConvAttributes& attributes);

// Convolution with what it absorbs: y = relu(scale * conv(x, w) + shift + residual), where scale
// and shift are a frozen normalisation.
// Inputs: x, weight, [bias], [gamma, beta, mean, variance], [residual].
class Conv2dOp final : public Op {
 public:
  struct Fused {
    bool bias = false;
    bool norm = false;
    float norm_eps = 0.0f;
    bool residual = false;
    bool relu = false;
  };
  Conv2dOp(const ConvAttributes& attributes, const Fused& fused)
      : attributes_(attributes), fused_(fused) {}

  std::string name() const override { return "conv2d"; }
  std::string attributes() const override;
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override;
  Saved saved() const override;
  bool differentiable(int input) const override;
  bool reads_tiles(int input) const override { return input == 1 && attributes_.groups == 1; }
  LayoutRule layout() const override { return LayoutRule::kImage; }
  PrecisionRule precision() const override { return PrecisionRule::kBf16; }
  std::shared_ptr<const Op> absorb(const Op& consumer, int slot) const override;
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override;

  const ConvAttributes& conv() const { return attributes_; }
  const Fused& fused() const { return fused_; }
  // Positions of the optional inputs.
  int bias_input() const { return 2; }
  int norm_input() const { return 2 + (fused_.bias ? 1 : 0); }
  int residual_input() const { return norm_input() + (fused_.norm ? 4 : 0); }
  WeightSource weights(std::span<const Tensor> inputs) const;

 private:
  ConvAttributes attributes_;
  Fused fused_;
};

std::unique_ptr<Kernel> compile_conv2d_gpu(const Conv2dOp& op, const KernelContext& context);

}  // namespace models
