// Convolutions of the software GPU by loops, in place of models/ops/no_cudnn.cpp.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "comm/cuda_calls.h"
#include "models/graph/element.h"
#include "models/ops/conv_engine.h"

namespace models {
namespace {

constexpr std::int64_t kWorkspaceBytes = 256;  // spoilt by every run: nobody may keep things there

// Channels last for (A, B, H, W), whichever of the two orders it is in, and back.
template <typename Move>
void for_each_last(const Shape& s, bool channels_last, const Move& move) {
  const std::int64_t channels = s[1], cells = s[2] * s[3];
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < s[0] * cells; ++row)
    for (std::int64_t c = 0; c < channels; ++c) {
      const std::int64_t last = row * channels + c;
      const std::int64_t first = (row / cells * channels + c) * cells + row % cells;
      move(last, channels_last ? last : first);
    }
}

// A tensor of a request: what it is stored as, and how.
struct Stored {
  Type type;
  Shape shape;
  bool channels_last;
};

std::vector<float> load(const void* from, const Stored& as) {
  std::vector<float> to(static_cast<std::size_t>(as.shape.count()));
  with_element(as.type, [&](auto zero) {
    const auto* values = static_cast<const decltype(zero)*>(from);
    for_each_last(as.shape, as.channels_last,
                  [&](auto last, auto stored) { to[last] = values[stored]; });
  });
  return to;
}
void store(const std::vector<float>& from, const Stored& as, void* to) {
  with_element(as.type, [&](auto zero) {
    auto* values = static_cast<decltype(zero)*>(to);
    for_each_last(as.shape, as.channels_last,
                  [&](auto last, auto stored) { values[stored] = from[last]; });
  });
}

// The three passes over channels-last arrays, in float, in one order of adding: the inner loops
// run over channels that lie side by side.
class Loops {
 public:
  explicit Loops(const ConvRequest& request)
      : r_(request),
        inputs_(r_.weight[1]),
        groups_(r_.x[1] / r_.weight[1]),
        outputs_(r_.weight[0] / groups_) {}

  std::vector<float> forward(const std::vector<float>& x, const std::vector<float>& w) const {
    const std::vector<float> packed = outputs_last(w);
    std::vector<float> y(static_cast<std::size_t>(r_.y.count()));
#pragma omp parallel for schedule(static)
    for (std::int64_t row = 0; row < r_.y[0] * r_.y[2]; ++row)
      for (std::int64_t column = 0; column < r_.y[3]; ++column) {
        float* const to = y.data() + (row * r_.y[3] + column) * r_.y[1];
        for (std::int64_t k = 0; k < taps(); ++k) {
          const float* const from = input_of(x.data(), row, column, k);
          if (from == nullptr) continue;
          for (std::int64_t i = 0; i < r_.x[1]; ++i)
            add(from[i], packed.data() + (k * r_.x[1] + i) * outputs_, outputs_,
                to + i / inputs_ * outputs_);
        }
      }
    return y;
  }

  std::vector<float> data_gradient(const std::vector<float>& dy,
                                   const std::vector<float>& w) const {
    std::vector<float> dx(static_cast<std::size_t>(r_.x.count()));
#pragma omp parallel for schedule(static)
    for (std::int64_t n = 0; n < r_.x[0]; ++n)
      for (std::int64_t row = n * r_.y[2]; row < (n + 1) * r_.y[2]; ++row)
        for (std::int64_t column = 0; column < r_.y[3]; ++column)
          for (std::int64_t k = 0; k < taps(); ++k) {
            float* const to = input_of(dx.data(), row, column, k);
            if (to == nullptr) continue;
            const float* const from = dy.data() + (row * r_.y[3] + column) * r_.y[1];
            for (std::int64_t o = 0; o < r_.y[1]; ++o)
              add(from[o], w.data() + (o * taps() + k) * inputs_, inputs_,
                  to + o / outputs_ * inputs_);
          }
    return dx;
  }

  std::vector<float> filter_gradient(const std::vector<float>& dy,
                                     const std::vector<float>& x) const {
    std::vector<float> dw(static_cast<std::size_t>(r_.weight.count()));
#pragma omp parallel for schedule(static)
    for (std::int64_t o = 0; o < r_.y[1]; ++o)
      for (std::int64_t row = 0; row < r_.y[0] * r_.y[2]; ++row)
        for (std::int64_t column = 0; column < r_.y[3]; ++column)
          for (std::int64_t k = 0; k < taps(); ++k) {
            const float* const from = input_of(x.data(), row, column, k);
            if (from != nullptr)
              add(dy[(row * r_.y[3] + column) * r_.y[1] + o], from + o / outputs_ * inputs_,
                  inputs_, dw.data() + (o * taps() + k) * inputs_);
          }
    return dw;
  }

 private:
  std::int64_t taps() const { return r_.weight[2] * r_.weight[3]; }
  static void add(float factor, const float* from, std::int64_t count, float* to) {
    for (std::int64_t i = 0; i < count; ++i) to[i] += factor * from[i];
  }
  // What tap k reads for row n H' + h and a column of y; null in the padding.
  template <typename T>
  T* input_of(T* x, std::int64_t row, std::int64_t column, std::int64_t k) const {
    const std::int64_t h = row % r_.y[2] * r_.stride + k / r_.weight[3] * r_.dilation - r_.padding;
    const std::int64_t w = column * r_.stride + k % r_.weight[3] * r_.dilation - r_.padding;
    if (h < 0 || w < 0 || h >= r_.x[2] || w >= r_.x[3]) return nullptr;
    return x + ((row / r_.y[2] * r_.x[2] + h) * r_.x[3] + w) * r_.x[1];
  }
  // (O, taps, I / groups) as (taps, I, O / groups).
  std::vector<float> outputs_last(const std::vector<float>& w) const {
    std::vector<float> packed(w.size());
    for (std::int64_t o = 0; o < r_.y[1]; ++o)
      for (std::int64_t k = 0; k < taps(); ++k)
        for (std::int64_t i = 0; i < inputs_; ++i)
          packed[(k * r_.x[1] + o / outputs_ * inputs_ + i) * outputs_ + o % outputs_] =
              w[(o * taps() + k) * inputs_ + i];
    return packed;
  }

  const ConvRequest& r_;
  std::int64_t inputs_, groups_, outputs_;  // inputs and outputs of a group
};

// One run of an engine, as the stream will do it.
struct Convolution {
  ConvRequest request;
  ConvOperands operands;
  std::span<std::byte> workspace;

  void operator()() const {
    const ConvRequest& r = request;
    const Loops loops(r);
    std::ranges::fill(workspace, std::byte{0xff});
    const auto read = [&](const void* from, const Shape& s) { return load(from, stored(s)); };
    switch (r.pass) {
      case ConvPass::kForward:
        return forward(loops.forward(read(operands.x, r.x), read(operands.weight, r.weight)));
      case ConvPass::kDataGradient:
        return store(loops.data_gradient(read(operands.y, r.y), read(operands.weight, r.weight)),
                     stored(r.x), operands.x);
      case ConvPass::kFilterGradient:
        return store(loops.filter_gradient(read(operands.y, r.y), read(operands.x, r.x)),
                     stored(r.weight), operands.weight);
    }
  }

 private:
  Stored stored(const Shape& shape) const { return {request.type, shape, request.channels_last}; }
  void forward(std::vector<float> y) const {
    const ConvRequest& r = request;
    if (r.epilogue) {
      const std::vector<float> bias = load(operands.bias, stored({1, r.y[1], 1, 1}));
      std::vector<float> residual;
      if (r.residual) residual = load(operands.residual, stored(r.y));
      for (std::size_t i = 0; i < y.size(); ++i) {
        y[i] += bias[i % static_cast<std::size_t>(r.y[1])];
        if (r.residual) y[i] += residual[i];
        if (r.relu) y[i] = std::max(y[i], 0.0f);
      }
    }
    store(y, stored(r.y), operands.y);
  }
};

class LoopEngine final : public ConvEngine {
 public:
  LoopEngine(const ConvRequest& request, comm::StreamView stream)
      : request_(request), stream_(stream) {}
  std::int64_t workspace_bytes() const override { return kWorkspaceBytes; }
  std::string name() const override { return "software GPU"; }
  void run(const ConvOperands& operands, std::span<std::byte> workspace) override {
    REQUIRE(std::ssize(workspace) >= kWorkspaceBytes, "{} bytes", workspace.size());
    const auto own = workspace.first(kWorkspaceBytes);
    std::array<const void*, 6> captured = {operands.x,    operands.weight,   operands.y,
                                           operands.bias, operands.residual, own.data()};
    comm::cuda::run_body(stream_, std::as_bytes(std::span(captured)),
                         Convolution{request_, operands, own});
  }

 private:
  ConvRequest request_;
  comm::StreamView stream_;
};

class LoopLibrary final : public ConvLibrary {
 public:
  explicit LoopLibrary(comm::StreamView stream) : stream_(stream) {}
  std::unique_ptr<ConvEngine> find(const ConvRequest& request) override {
    return std::make_unique<LoopEngine>(request, stream_);
  }

 private:
  comm::StreamView stream_;
};

}  // namespace

std::shared_ptr<ConvLibrary> open_cudnn(const KernelContext& context) {
  return std::make_shared<LoopLibrary>(context.stream);
}

std::shared_ptr<ConvLibrary> describe_cudnn(const std::string& gpu) {
  comm::fail(comm::ExitCode::kDevice, "the software GPU knows no other GPUs: {}", gpu);
}

}  // namespace models
