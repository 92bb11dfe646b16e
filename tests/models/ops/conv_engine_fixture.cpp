#include "tests/models/ops/conv_engine_fixture.h"

#include <algorithm>

#include "models/graph/element.h"

namespace models::testing {
namespace {

std::int64_t at(const Shape& s, bool channels_last, const Shape& i) {
  return channels_last ? ((i[0] * s[2] + i[2]) * s[3] + i[3]) * s[1] + i[1]
                       : ((i[0] * s[1] + i[1]) * s[2] + i[2]) * s[3] + i[3];
}

// visit(x, weight, y) for the positions of every product.
template <typename Visit>
void for_each_product(const ConvRequest& r, const Visit& visit) {
  const std::int64_t in = r.weight[1], out = r.weight[0] * in / r.x[1];  // of a group
  const auto last = r.channels_last;
  for (std::int64_t n = 0; n < r.y[0]; ++n)
    for (std::int64_t o = 0; o < r.y[1]; ++o)
      for (std::int64_t h = 0; h < r.y[2]; ++h)
        for (std::int64_t w = 0; w < r.y[3]; ++w)
          for (std::int64_t i = 0; i < in; ++i)
            for (std::int64_t k = 0; k < r.weight[2] * r.weight[3]; ++k) {
              const std::int64_t row = k / r.weight[3], column = k % r.weight[3];
              const std::int64_t xh = h * r.stride + row * r.dilation - r.padding;
              const std::int64_t xw = w * r.stride + column * r.dilation - r.padding;
              if (xh < 0 || xw < 0 || xh >= r.x[2] || xw >= r.x[3]) continue;
              visit(at(r.x, last, {n, o / out * in + i, xh, xw}),
                    at(r.weight, last, {o, i, row, column}), at(r.y, last, {n, o, h, w}));
            }
}

class ReferenceEngine final : public ConvEngine {
 public:
  explicit ReferenceEngine(const ConvRequest& request) : r_(request) {}
  std::int64_t workspace_bytes() const override { return 4 * r_.y[0] + 12; }
  std::string name() const override { return "loops"; }

  void run(const ConvOperands& v, std::span<std::byte> workspace) override {
    const auto bytes = static_cast<std::size_t>(workspace_bytes());
    REQUIRE(workspace.size() >= bytes, "{} bytes", workspace.size());
    std::fill_n(workspace.begin(), bytes, std::byte{0xff});
    compute(v);
    std::fill_n(workspace.begin(), bytes, std::byte{0xff});
  }

 private:
  void compute(const ConvOperands& v) const {
    switch (r_.pass) {
      case ConvPass::kForward:
        return write(r_.y, v.y, v, [&](auto& sums, auto x, auto w, auto y) {
          sums[y] += get(v.x, x) * get(v.weight, w);
        });
      case ConvPass::kDataGradient:
        return write(r_.x, v.x, v, [&](auto& sums, auto x, auto w, auto y) {
          sums[x] += get(v.y, y) * get(v.weight, w);
        });
      case ConvPass::kFilterGradient:
        return write(r_.weight, v.weight, v, [&](auto& sums, auto x, auto w, auto y) {
          sums[w] += get(v.y, y) * get(v.x, x);
        });
    }
  }
  double get(const void* operand, std::int64_t i) const {
    if (r_.type == Type::kBF16) return float{static_cast<const comm::Bf16*>(operand)[i]};
    return static_cast<const float*>(operand)[i];
  }
  template <typename Add>
  void write(const Shape& shape, void* to, const ConvOperands& v, const Add& add) const {
    std::vector<double> sums(static_cast<std::size_t>(shape.count()));
    for_each_product(r_, [&](auto x, auto w, auto y) { add(sums, x, w, y); });
    const std::int64_t cells = shape[2] * shape[3];
    for (std::size_t i = 0; i < sums.size(); ++i) {
      if (r_.epilogue) {
        const auto e = static_cast<std::int64_t>(i);
        sums[i] += get(v.bias, r_.channels_last ? e % shape[1] : e / cells % shape[1]);
        if (r_.residual) sums[i] += get(v.residual, e);
        if (r_.relu) sums[i] = std::max(sums[i], 0.0);
      }
    }
    with_element(r_.type, [&](auto zero) {
      using T = decltype(zero);
      std::transform(sums.begin(), sums.end(), static_cast<T*>(to),
                     [](double sum) { return T(static_cast<float>(sum)); });
    });
  }
  ConvRequest r_;
};

class ReferenceLibrary final : public ConvLibrary {
 public:
  explicit ReferenceLibrary(bool epilogues) : epilogues_(epilogues) {}
  std::unique_ptr<ConvEngine> find(const ConvRequest& request) override {
    if (request.epilogue && !epilogues_) return nullptr;
    return std::make_unique<ReferenceEngine>(request);
  }

 private:
  bool epilogues_;
};

}  // namespace

std::shared_ptr<ConvLibrary> reference_library(bool epilogues) {
  return std::make_shared<ReferenceLibrary>(epilogues);
}

std::vector<ConvOperand> conv_operands(const Conv2dOp& op, const Shape& x, const Shape& w) {
  const Conv2dOp::Fused& fused = op.fused();
  const Shape channels = {w[0]};
  std::vector<ConvOperand> operands = {{"x", x, false}, {"w", w}};
  if (fused.bias) operands.push_back({"b", channels});
  if (fused.norm) {
    for (const char* name : {"gamma", "beta", "mean"}) operands.push_back({name, channels});
    operands.push_back({"variance", channels, true, 0.2f});
  }
  if (fused.residual) {
    const ValueSpec specs[] = {{Type::kF32, x}, {Type::kF32, w}};
    operands.push_back({"z", Conv2dOp(op.conv(), {}).infer(specs)[0].shape, false});
  }
  return operands;
}

}  // namespace models::testing
