#include "models/ops/detection_loss_rows.h"

#include <limits>

#include "comm/buffer.h"
#include "models/graph/element.h"
#include "models/ops/focal.h"

namespace models {
namespace {

constexpr int kMaxLevels = 8;

// Row r of a level is anchor r % num_anchors of image r / num_anchors.
template <typename T>
struct RowLevel {
  const T* data = nullptr;
  T* gradient = nullptr;  // null in the forward pass, and where nobody wants it
  std::int64_t first_item = std::numeric_limits<std::int64_t>::max();  // among those of all levels
  std::uint32_t num_rows = 0, num_anchors = 0, first_anchor = 0;
  bool accumulate = false;

  template <int N>
  RIDGELINE_HD void give(std::int64_t at, comm::Pack<float, N> d) const {
    if (accumulate) {
      const auto before = comm::load(gradient + at, comm::Lanes<N>{});
      for (int k = 0; k < N; ++k) d[k] = before[k] + d[k];
    }
    comm::store(gradient + at, d);
  }
};

template <typename T>
struct RowLevels {
  RowLevel<T> level[kMaxLevels];
  RIDGELINE_HD const RowLevel<T>& of(std::int64_t item) const {
    int l = 0;
    for (int next = 1; next < kMaxLevels; ++next) l += item >= level[next].first_item;
    return level[l];
  }
};

// Where a row's anchor and image are.
struct RowOf {
  std::uint32_t image, anchor;
  template <typename T>
  RIDGELINE_HD RowOf(const RowLevel<T>& level, std::uint32_t row)
      : image(row / level.num_anchors),
        anchor(level.first_anchor + row - image * level.num_anchors) {}
};

// An item is kPiece neighbours, which reach into the next row at most.
template <typename T, bool kBackward, int kPiece>
struct FocalRows {
  RowLevels<T> levels;
  const std::int32_t* target;  // (N, A)
  const float* scale;          // (N)
  const float* dloss;          // backward
  std::uint32_t num_anchors, num_classes;

  RIDGELINE_HD double operator()(std::int64_t item) const {
    const RowLevel<T>& level = levels.of(item);
    if (kBackward && !level.gradient) return 0.0;
    std::int64_t at = (item - level.first_item) * kPiece;
    const std::int64_t count = std::int64_t{level.num_rows} * num_classes;
    if (at + kPiece <= count) return run(level, at, comm::Lanes<kPiece>{});
    double sum = 0.0;
    for (; at < count; ++at) sum += run(level, at, comm::Lanes<1>{});
    return sum;
  }

  struct Row {
    std::int32_t wanted;
    float factor;
  };
  RIDGELINE_HD Row row_at(const RowLevel<T>& level, std::uint32_t row) const {
    const RowOf of(level, row);
    return {target[std::int64_t{of.image} * num_anchors + of.anchor],
            scale[of.image] * (kBackward ? *dloss : 1.0f)};
  }

  template <int N>
  RIDGELINE_HD double run(const RowLevel<T>& level, std::int64_t at, comm::Lanes<N> lanes) const {
    const auto x = comm::load(level.data + at, lanes);
    const auto row = static_cast<std::uint32_t>(at / num_classes);
    const auto first = static_cast<std::int32_t>(at - std::int64_t{row} * num_classes);
    const auto classes = static_cast<std::int32_t>(num_classes);
    const Row here = row_at(level, row);
    const Row next = first + N <= classes ? here : row_at(level, row + 1);
    comm::Pack<float, N> d;
    float sum = 0.0f, sum_of_next = 0.0f;
    for (int k = 0; k < N; ++k) {
      const bool beyond = first + k >= classes;
      const float value = focal_element<kBackward>(x[k], beyond ? next.wanted : here.wanted,
                                                   first + k - (beyond ? classes : 0));
      d[k] = value * (beyond ? next.factor : here.factor);
      sum += beyond ? 0.0f : value;
      sum_of_next += beyond ? value : 0.0f;
    }
    if constexpr (kBackward) {
      level.give(at, d);
      return 0.0;
    }
    return static_cast<double>(sum) * here.factor + static_cast<double>(sum_of_next) * next.factor;
  }
};

// An item is a row: the four deltas of an anchor.
template <typename T, bool kBackward>
struct BoxRows {
  RowLevels<T> levels;
  const std::int32_t* match;  // (N, A)
  const float* scale;         // (N)
  const float* dloss;         // backward
  const Box* anchors;         // (A)
  const Box* boxes;           // (N, M)
  std::uint32_t num_anchors, capacity;

  RIDGELINE_HD double operator()(std::int64_t item) const {
    const RowLevel<T>& level = levels.of(item);
    if (kBackward && !level.gradient) return 0.0;
    const std::int64_t row = item - level.first_item;
    const RowOf of(level, static_cast<std::uint32_t>(row));
    const std::int32_t g = match[std::int64_t{of.image} * num_anchors + of.anchor];
    comm::Pack<float, 4> d{};
    float sum = 0.0f;
    if (g >= 0) {
      const auto delta = comm::load(level.data + row * 4, comm::Lanes<4>{});
      const Box anchor = anchors[of.anchor], box = boxes[std::int64_t{of.image} * capacity + g];
      const float factor = scale[of.image] * (kBackward ? *dloss : 1.0f);
      for (int j = 0; j < 4; ++j) {
        const float distance = delta[j] - encode_box(anchor, box, j);
        d[j] = distance > 0.0f ? factor : distance < 0.0f ? -factor : 0.0f;
        sum += std::fabs(distance) * factor;
      }
    }
    if constexpr (kBackward) level.give(row * 4, d);
    return sum;
  }
};

struct SumsAgain {
  const double* sums;
  RIDGELINE_HD double operator()(std::int64_t i) const { return sums[i]; }
};

struct GiveLoss {
  const double* sums;
  std::int64_t count;
  float* loss;
  RIDGELINE_HD void operator()(std::int64_t) const {
    double sum = 0.0;
    for (std::int64_t i = 0; i < count; ++i) sum += sums[i];
    *loss = static_cast<float>(sum);
  }
};

// A body for its writes alone.
template <typename Body>
struct WriteRows {
  Body body;
  RIDGELINE_HD void operator()(std::int64_t i) const { body(i); }
};

// `piece`: elements of an item
template <typename T>
class RowsKernel : public Kernel {
 public:
  RowsKernel(const AnchorGrid& grid, std::int64_t row, int piece, const KernelContext& context)
      : stream_(context.stream), row_(row), num_anchors_(static_cast<std::uint32_t>(grid.total())) {
    for (std::size_t l = 0; l < grid.levels.size(); ++l) {
      const Tensor& x = context.inputs[l];
      REQUIRE(x.type == context.inputs[0].type, "levels of two types");
      RowLevel<T>& level = levels_.level[l];
      level.first_item = num_items_;
      level.num_rows = static_cast<std::uint32_t>(x.shape.count() / row);
      level.num_anchors = static_cast<std::uint32_t>(level.num_rows / x.shape[0]);
      level.first_anchor = static_cast<std::uint32_t>(grid.levels[l].first);
      num_items_ += comm::num_blocks(x.shape.count(), piece);
    }
    num_levels_ = static_cast<int>(grid.levels.size());
  }
  std::int64_t workspace_bytes() const override {
    const std::int64_t leaves = comm::num_reduce_blocks(num_items_);
    return (leaves + comm::num_reduce_blocks(leaves)) * 8;
  }

 protected:
  RowLevels<T> levels(const KernelArgs& args) const {
    RowLevels<T> all = levels_;
    for (int l = 0; l < num_levels_; ++l) {
      all.level[l].data = args.inputs[l].as<const T>();
      if (args.dinputs.empty() || args.modes[l] == GradientMode::kNone) continue;
      all.level[l].gradient = args.dinputs[l].as<T>();
      all.level[l].accumulate = args.modes[l] == GradientMode::kAccumulate;
    }
    return all;
  }
  // Leaves, sums of leaves, and what few are left by one thread.
  template <typename Body>
  void sum_rows(const KernelArgs& args, const Body& body) const {
    const std::int64_t leaves = comm::num_reduce_blocks(num_items_);
    const std::int64_t count = comm::num_reduce_blocks(leaves);
    auto* sums = reinterpret_cast<double*>(args.workspace.data());
    comm::parallel_block_sums(stream_, num_items_, body, {sums, static_cast<std::size_t>(leaves)});
    comm::parallel_block_sums(stream_, leaves, SumsAgain{sums},
                              {sums + leaves, static_cast<std::size_t>(count)});
    comm::parallel_for(stream_, 1, GiveLoss{sums + leaves, count, args.outputs[0].f32()});
  }
  template <typename Body>
  void write_rows(const Body& body) const {
    comm::parallel_for(stream_, num_items_, WriteRows<Body>{body});
  }

  comm::StreamView stream_;
  std::int64_t row_;
  std::uint32_t num_anchors_;
  int num_levels_ = 0;

 private:
  RowLevels<T> levels_;
  std::int64_t num_items_ = 0;
};

template <typename T, int kPiece>
class FocalRowsKernel final : public RowsKernel<T> {
 public:
  FocalRowsKernel(const AnchorGrid& grid, int num_classes, const KernelContext& context)
      : RowsKernel<T>(grid, num_classes, kPiece, context) {}
  void forward(const KernelArgs& args) override {
    this->sum_rows(args, body<false>(args, nullptr));
  }
  void backward(const KernelArgs& args) override {
    this->write_rows(body<true>(args, args.doutputs[0].f32()));
  }

 private:
  template <bool kBackward>
  FocalRows<T, kBackward, kPiece> body(const KernelArgs& args, const float* dloss) const {
    const int l = this->num_levels_;
    return {this->levels(args),       args.inputs[l].as<const std::int32_t>(),
            args.inputs[l + 1].f32(), dloss,
            this->num_anchors_,       static_cast<std::uint32_t>(this->row_)};
  }
};

template <typename T>
class BoxRowsKernel final : public RowsKernel<T> {
 public:
  BoxRowsKernel(const AnchorGrid& grid, const KernelContext& context)
      : RowsKernel<T>(grid, 4, 4, context),
        anchors_(context.device, grid.boxes.size() * sizeof(float)) {
    comm::copy_bytes(context.stream, anchors_.bytes(), std::as_bytes(std::span(grid.boxes)));
    context.stream.synchronize();
  }
  void forward(const KernelArgs& args) override {
    this->sum_rows(args, body<false>(args, nullptr));
  }
  void backward(const KernelArgs& args) override {
    this->write_rows(body<true>(args, args.doutputs[0].f32()));
  }

 private:
  template <bool kBackward>
  BoxRows<T, kBackward> body(const KernelArgs& args, const float* dloss) const {
    const int l = this->num_levels_;
    return {this->levels(args),
            args.inputs[l].as<const std::int32_t>(),
            args.inputs[l + 1].f32(),
            dloss,
            reinterpret_cast<const Box*>(anchors_.bytes().data()),
            args.inputs[l + 2].as<const Box>(),
            this->num_anchors_,
            static_cast<std::uint32_t>(args.inputs[l + 2].shape[1])};
  }
  comm::Buffer anchors_;  // (A, 4)
};

}  // namespace

bool levels_lie_in_rows(const AnchorGrid& grid, const KernelContext& context, std::int64_t row) {
  if (grid.levels.size() > kMaxLevels) return false;
  for (std::size_t l = 0; l < grid.levels.size(); ++l) {
    const Tensor& x = context.inputs[l];
    const bool last = x.channel_block == x.shape[1] || x.shape[2] * x.shape[3] == 1;
    const bool few = x.shape.count() / row < std::int64_t{1} << 31;
    if (!last || !few || x.shape[1] != grid.per_cell * row) return false;
  }
  return true;
}

// Fewer classes than elements in 16 bytes: one by one.
std::unique_ptr<Kernel> compile_focal_loss_rows(const AnchorGrid& grid, int num_classes,
                                                const KernelContext& context) {
  return with_element(context.inputs[0].type, [&](auto zero) -> std::unique_ptr<Kernel> {
    using T = decltype(zero);
    constexpr int kPiece = 8;
    if (num_classes < kPiece)
      return std::make_unique<FocalRowsKernel<T, 1>>(grid, num_classes, context);
    return std::make_unique<FocalRowsKernel<T, kPiece>>(grid, num_classes, context);
  });
}

std::unique_ptr<Kernel> compile_box_loss_rows(const AnchorGrid& grid,
                                              const KernelContext& context) {
  return make_kernel<BoxRowsKernel>(context.inputs[0].type, grid, context);
}

}  // namespace models
