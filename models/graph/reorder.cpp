#include "models/graph/reorder.h"

#include <algorithm>

#include "comm/parallel.h"
#include "models/graph/element.h"

namespace models {
namespace {

constexpr std::int64_t kRange = 16384;  // elements a thread of a host takes at once

// One row (n, c, h, :) of dst from src, channel by channel, or its element w.
template <typename From, typename To>
struct CopyRow {
  const From* src;
  To* dst;
  Shape shape;
  int src_block, dst_block;
  bool accumulate;

  RIDGELINE_HD void operator()(std::int64_t row) const { copy(row, 0, shape[3]); }
  RIDGELINE_HD void operator()(std::int64_t row, std::int64_t w) const { copy(row, w, w + 1); }

  RIDGELINE_HD void copy(std::int64_t row, std::int64_t begin, std::int64_t end) const {
    const std::int64_t channels = shape[1], height = shape[2];
    const std::int64_t padded = (channels + dst_block - 1) / dst_block * dst_block;
    const std::int64_t h = row % height, c = row / height % padded, n = row / (height * padded);
    To* to = dst + at(n, c, h, dst_block);
    if (c >= channels) {
      for (std::int64_t w = begin; w < end; ++w) to[w * dst_block] = 0.0f;
      return;
    }
    const From* from = src + at(n, c, h, src_block);
    for (std::int64_t w = begin; w < end; ++w) {
      to[w * dst_block] = from[w * src_block] + (accumulate ? float{to[w * dst_block]} : 0.0f);
    }
  }

  RIDGELINE_HD std::int64_t at(std::int64_t n, std::int64_t c, std::int64_t h, int block) const {
    const std::int64_t blocks = (shape[1] + block - 1) / block;
    return ((n * blocks + c / block) * shape[2] + h) * shape[3] * block + c % block;
  }
};

// dst (+)= src where both lie in the same order.
template <typename From, typename To>
struct CopyElements {
  const From* src;
  To* dst;
  bool accumulate;
  template <int N>
  RIDGELINE_HD void operator()(std::int64_t i, comm::Lanes<N> lanes) const {
    const comm::Pack<From, N> from = comm::load(src + i, lanes);
    comm::Pack<To, N> there;
    if (accumulate) there = comm::load(dst + i, lanes);
    comm::Pack<float, N> to;
    comm::each(comm::Lanes<N>{},
               [&](int k) { to[k] = from[k] + (accumulate ? float{there[k]} : 0.0f); });
    comm::store(dst + i, to);
  }
};

class ReorderKernel final : public Kernel {
 public:
  explicit ReorderKernel(comm::StreamView stream) : stream_(stream) {}
  void forward(const KernelArgs& args) override {
    reorder(stream_, args.inputs[0], args.outputs[0], false);
  }
  // dx = dy, in the order of x
  void backward(const KernelArgs& args) override {
    if (args.modes[0] == GradientMode::kNone) return;
    reorder(stream_, args.doutputs[0], args.dinputs[0], args.modes[0] == GradientMode::kAccumulate);
  }

 private:
  comm::StreamView stream_;
};

class ReorderOp final : public Op {
 public:
  explicit ReorderOp(const char* name) : name_(name) {}
  std::string name() const override { return name_; }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    return {inputs[0]};
  }
  LayoutRule layout() const override { return LayoutRule::kAny; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return std::make_unique<ReorderKernel>(context.stream);
  }

 private:
  const char* name_;
};

}  // namespace

std::shared_ptr<const Op> make_reorder() { return std::make_shared<ReorderOp>("reorder"); }

std::shared_ptr<const Op> make_cast() { return std::make_shared<ReorderOp>("cast"); }

void reorder(comm::StreamView stream, const Tensor& src, const Tensor& dst, bool accumulate) {
  REQUIRE(src.shape == dst.shape, "{} to {}", to_string(src.shape), to_string(dst.shape));
  const std::int64_t padded =
      (src.shape[1] + dst.channel_block - 1) / dst.channel_block * dst.channel_block;
  // Padding of src may hold anything.
  const bool same_order = src.channel_block == dst.channel_block && padded == src.shape[1];
  with_element(src.type, [&](auto from) {
    with_element(dst.type, [&](auto to) {
      if (same_order) {
        // As many neighbours as make 16 bytes of the narrower type.
        constexpr int kLanes =
            std::max(comm::kVectorLanes<decltype(from)>, comm::kVectorLanes<decltype(to)>);
        return comm::parallel_for_vectors<kLanes>(
            stream, dst.physical_count(), kRange,
            CopyElements<decltype(from), decltype(to)>{src.as<decltype(from)>(),
                                                       dst.as<decltype(to)>(), accumulate},
            {src.data, dst.data});
      }
      using Body = CopyRow<decltype(from), decltype(to)>;
      comm::parallel_for_rows(stream, src.shape[0] * padded * src.shape[2], src.shape[3],
                              Body{src.as<decltype(from)>(), dst.as<decltype(to)>(), src.shape,
                                   src.channel_block, dst.channel_block, accumulate},
                              64);
    });
  });
}

}  // namespace models
