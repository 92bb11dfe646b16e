#pragma once

#include "models/graph/graph.h"

namespace models {

// y(n, c, h, w) = max over the window; padding never wins. x: (N, C, H, W). With `ceil` a last
// window that starts inside x but reaches beyond its padding counts too, as PyTorch's ceil_mode.
Value max_pool(Graph& graph, Value x, int window, int stride, int padding, bool ceil = false);

// Outputs: y, and the index of each maximum inside its window, which backward reads.
class MaxPoolOp final : public Op {
 public:
  MaxPoolOp(int window, int stride, int padding, bool ceil)
      : window_(window), stride_(stride), padding_(padding), ceil_(ceil) {}
  std::string name() const override { return "max_pool"; }
  std::string attributes() const override;
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override;
  Saved saved() const override { return {{}, {1}}; }
  LayoutRule layout() const override { return LayoutRule::kBlocked; }
  PrecisionRule precision() const override { return PrecisionRule::kFollow; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override;
  int window() const { return window_; }
  int stride() const { return stride_; }
  int padding() const { return padding_; }
  // Cells beyond the last one of an extent of x, so that the windows of y fit.
  int padding_after(std::int64_t x, std::int64_t y) const {
    return static_cast<int>((y - 1) * stride_ + window_ - x) - padding_;
  }

 private:
  int window_, stride_, padding_;
  bool ceil_;
};

std::unique_ptr<Kernel> compile_max_pool_onednn(const MaxPoolOp& op, const KernelContext& context);
std::unique_ptr<Kernel> compile_max_pool_gpu(const MaxPoolOp& op, const KernelContext& context);

}  // namespace models
