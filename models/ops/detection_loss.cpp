#include "models/ops/detection_loss.h"

#include <fmt/format.h>

#include "comm/buffer.h"
#include "models/graph/element.h"
#include "models/ops/detection_loss_rows.h"
#include "models/ops/focal.h"

namespace models {
namespace {

// One pyramid level as the losses walk it. An item is up to `piece` consecutive channels of one
// block (n, channel block, h, w).
template <typename T>
struct LevelView {
  const T* data;
  T* gradient;  // null in the forward pass
  std::int64_t channels, cells;
  std::int64_t first_anchor, num_anchors;
  int block, piece, pieces, per_cell;  // pieces of a block
  bool accumulate;

  struct Item {
    std::int64_t image, first;     // element of its first channel
    std::int64_t channel, anchor;  // that channel; the anchor of channel 0 at this cell
    int count;
  };
  RIDGELINE_HD Item item(std::int64_t i) const {
    const std::int64_t blocks = (channels + block - 1) / block;
    const std::int64_t at = pieces == 1 ? i : i / pieces, cell = at % cells, rest = at / cells;
    const int lane = static_cast<int>(i - at * pieces) * piece;
    return {rest / blocks, at * block + lane, rest % blocks * block + lane,
            first_anchor + cell * per_cell, block - lane < piece ? block - lane : piece};
  }
  RIDGELINE_HD void give(std::int64_t at, float value) const {
    gradient[at] = accumulate ? gradient[at] + value : value;
  }
};

// What channel c of the logits stands for: the anchor c / K of its cell and the class c % K. A
// channel of padding has no class.
struct ChannelTable {
  const std::int32_t *anchor, *label;
};
constexpr int kVector = 16;  // lanes of AVX-512

// kLanes: what a CPU takes at once; 1 on a GPU, which would keep registers for more.
template <typename T, bool kBackward, int kLanes>
struct Focal {
  LevelView<T> level;
  const std::int32_t* target;  // (N, A)
  const float* scale;          // (N)
  const float* dloss;          // backward
  ChannelTable table;          // (channels, padded)

  RIDGELINE_HD double operator()(std::int64_t i) const {
    const auto at = level.item(i);
    const std::int32_t* targets = target + at.image * level.num_anchors + at.anchor;
    const float factor = scale[at.image] * (kBackward ? *dloss : 1.0f);
    float sum = 0.0f;
    int lane = 0;
    if constexpr (kLanes > 1) {
      for (; lane + kLanes <= at.count; lane += kLanes) {
        sum += lanes<kLanes>(at.first + lane, at.channel + lane, targets, factor);
      }
    }
    for (; lane < at.count; ++lane) {
      sum += lanes<1>(at.first + lane, at.channel + lane, targets, factor);
    }
    return static_cast<double>(sum) * factor;
  }

  // Loops without branches over arrays, which the compiler turns into vectors.
  template <int kCount>
  RIDGELINE_HD float lanes(std::int64_t index, std::int64_t channel, const std::int32_t* targets,
                           float factor) const {
    const T* x = level.data + index;
    const std::int32_t *anchor = table.anchor + channel, *label = table.label + channel;
    std::int32_t wanted[kCount];
    float value[kCount];
    for (int k = 0; k < kCount; ++k) wanted[k] = targets[anchor[k]];
    for (int k = 0; k < kCount; ++k) {
      value[k] = focal_element<kBackward>(x[k], wanted[k], label[k]);
    }
    if constexpr (kBackward) {
      for (int k = 0; k < kCount; ++k) level.give(index + k, value[k] * factor);
      return 0.0f;
    }
    float sum = 0.0f;
    for (int k = 0; k < kCount; ++k) sum += value[k];
    return sum;
  }
};

// |delta_j - encode_j(anchor, box)| and its sign
template <typename T>
struct BoxL1 {
  LevelView<T> level;
  const std::int32_t* match;  // (N, A)
  const float* scale;         // (N)
  const float* dloss;
  const Box* anchors;  // (A)
  const Box* boxes;    // (N, M)
  std::int64_t capacity;

  RIDGELINE_HD double operator()(std::int64_t i) const {
    const auto at = level.item(i);
    const float factor = scale[at.image] * (dloss ? *dloss : 1.0f);
    float sum = 0.0f;
    for (int lane = 0; lane < at.count; ++lane) {
      const std::int64_t channel = at.channel + lane, index = at.first + lane;
      const std::int64_t anchor = at.anchor + channel / 4;
      const std::int32_t g =
          channel < level.channels ? match[at.image * level.num_anchors + anchor] : kBackground;
      float distance = 0.0f;
      if (g >= 0) {
        distance = level.data[index] - encode_box(anchors[anchor], boxes[at.image * capacity + g],
                                                  static_cast<int>(channel % 4));
      }
      if (level.gradient) {
        level.give(index, distance > 0.0f ? factor : distance < 0.0f ? -factor : 0.0f);
      } else {
        sum += std::fabs(distance);
      }
    }
    return static_cast<double>(sum) * factor;
  }
};

struct AddLevels {
  const double* totals;
  float* loss;
  int num_levels;
  RIDGELINE_HD void operator()(std::int64_t) const {
    double sum = 0.0;
    for (int l = 0; l < num_levels; ++l) sum += totals[l];
    *loss = static_cast<float>(sum);
  }
};

// A body for its writes alone.
template <typename Body>
struct Discard {
  Body body;
  RIDGELINE_HD void operator()(std::int64_t i) const { body(i); }
};

// Runs a body over all levels: totals in the forward pass, gradients in the backward pass.
template <typename T>
class LevelKernel : public Kernel {
 public:
  LevelKernel(std::shared_ptr<const AnchorGrid> grid, const KernelContext& context)
      : stream_(context.stream), grid_(std::move(grid)) {
    for (std::size_t l = 0; l < grid_->levels.size(); ++l) {
      REQUIRE(context.inputs[l].type == context.inputs[0].type, "levels of two types");
      max_items_ = std::max(max_items_, num_items(context.inputs[l]));
    }
  }
  std::int64_t workspace_bytes() const override {
    return (comm::num_reduce_blocks(max_items_) + num_levels()) * 8;
  }

 protected:
  int num_levels() const { return static_cast<int>(grid_->levels.size()); }
  // Whole blocks on a CPU; on a GPU few channels a thread, beside those of its neighbours.
  int piece(const Tensor& t) const {
    return stream_.on_cpu() ? t.channel_block : std::min(t.channel_block, 8);
  }
  int pieces(const Tensor& t) const {
    return static_cast<int>(comm::num_blocks(t.channel_block, piece(t)));
  }
  std::int64_t num_items(const Tensor& t) const {
    return t.physical_count() / t.channel_block * pieces(t);
  }

  LevelView<T> view(const KernelArgs& args, int l) const {
    const Tensor& x = args.inputs[l];
    const bool backward = !args.dinputs.empty();
    return {x.as<T>(),
            backward ? args.dinputs[l].as<T>() : nullptr,
            x.shape[1],
            x.shape[2] * x.shape[3],
            grid_->levels[l].first,
            grid_->total(),
            x.channel_block,
            piece(x),
            pieces(x),
            grid_->per_cell,
            backward && args.modes[l] == GradientMode::kAccumulate};
  }
  template <typename Make>
  void sum_levels(const KernelArgs& args, Make make) const {
    auto* totals = reinterpret_cast<double*>(args.workspace.data());
    for (int l = 0; l < num_levels(); ++l) {
      const std::int64_t n = num_items(args.inputs[l]);
      const std::span<double> sums(totals + num_levels(),
                                   static_cast<std::size_t>(comm::num_reduce_blocks(n)));
      comm::parallel_reduce(stream_, n, make(view(args, l)), sums, {totals + l, 1});
    }
    comm::parallel_for(stream_, 1, AddLevels{totals, args.outputs[0].f32(), num_levels()});
  }
  template <typename Make>
  void sweep_levels(const KernelArgs& args, Make make) const {
    for (int l = 0; l < num_levels(); ++l) {
      if (args.modes[l] == GradientMode::kNone) continue;
      const auto body = make(view(args, l));
      comm::parallel_for(stream_, num_items(args.inputs[l]), Discard<decltype(body)>{body}, 64);
    }
  }

  comm::StreamView stream_;
  std::shared_ptr<const AnchorGrid> grid_;

 private:
  std::int64_t max_items_ = 0;
};

template <typename T>
class FocalKernel final : public LevelKernel<T> {
 public:
  FocalKernel(std::shared_ptr<const AnchorGrid> grid, int num_classes, const KernelContext& context)
      : LevelKernel<T>(std::move(grid), context) {
    const Tensor& logits = context.inputs[0];  // all levels have the same channels
    const std::int64_t channels = logits.shape[1], block = logits.channel_block;
    const std::int64_t padded = (channels + block - 1) / block * block;
    std::vector<std::int32_t> rows(2 * padded, 0);
    for (std::int64_t c = 0; c < padded; ++c) {
      if (c < channels) rows[c] = static_cast<std::int32_t>(c / num_classes);
      rows[padded + c] = c < channels ? static_cast<std::int32_t>(c % num_classes) : kNoClass;
    }
    table_ = comm::Buffer(context.device, rows.size() * sizeof(std::int32_t));
    comm::copy_bytes(context.stream, table_.bytes(), std::as_bytes(std::span(rows)));
    context.stream.synchronize();
    const auto* first = table_.as<const std::int32_t>().data();
    rows_ = {first, first + padded};
  }
  void forward(const KernelArgs& args) override {
    if (this->stream_.on_cpu()) return sum<kVector>(args);
    sum<1>(args);
  }
  void backward(const KernelArgs& args) override {
    if (this->stream_.on_cpu()) return sweep<kVector>(args);
    sweep<1>(args);
  }

 private:
  template <int kLanes>
  void sum(const KernelArgs& args) const {
    this->sum_levels(args, [&](const LevelView<T>& level) {
      return body<Focal<T, false, kLanes>>(args, level, nullptr);
    });
  }
  template <int kLanes>
  void sweep(const KernelArgs& args) const {
    const float* dloss = args.doutputs[0].f32();
    this->sweep_levels(args, [&](const LevelView<T>& level) {
      return body<Focal<T, true, kLanes>>(args, level, dloss);
    });
  }
  template <typename Body>
  Body body(const KernelArgs& args, const LevelView<T>& level, const float* dloss) const {
    const int l = this->num_levels();
    return {level, args.inputs[l].as<const std::int32_t>(), args.inputs[l + 1].f32(), dloss, rows_};
  }
  comm::Buffer table_;
  ChannelTable rows_;
};

template <typename T>
class BoxKernel final : public LevelKernel<T> {
 public:
  BoxKernel(std::shared_ptr<const AnchorGrid> grid, const KernelContext& context)
      : LevelKernel<T>(grid, context),
        anchors_(context.device, grid->boxes.size() * sizeof(float)) {
    comm::copy_bytes(context.stream, anchors_.bytes(), std::as_bytes(std::span(grid->boxes)));
    context.stream.synchronize();
  }
  void forward(const KernelArgs& args) override {
    this->sum_levels(args, [&](const LevelView<T>& level) { return body(args, level, nullptr); });
  }
  void backward(const KernelArgs& args) override {
    this->sweep_levels(
        args, [&](const LevelView<T>& level) { return body(args, level, args.doutputs[0].f32()); });
  }

 private:
  BoxL1<T> body(const KernelArgs& args, const LevelView<T>& level, const float* dloss) const {
    const int l = this->num_levels();
    return {level,
            args.inputs[l].as<const std::int32_t>(),
            args.inputs[l + 1].f32(),
            dloss,
            reinterpret_cast<const Box*>(anchors_.bytes().data()),
            args.inputs[l + 2].as<const Box>(),
            args.inputs[l + 2].shape[1]};
  }
  comm::Buffer anchors_;  // (A, 4)
};

// What both losses share: levels first, then what the backward pass reads again.
class LevelLossOp : public Op {
 public:
  LevelLossOp(std::shared_ptr<const AnchorGrid> grid, int num_inputs)
      : grid_(std::move(grid)), num_inputs_(num_inputs) {}
  std::vector<ValueSpec> infer(std::span<const ValueSpec>) const override {
    return {{Type::kF32, {1}}};
  }
  bool differentiable(int input) const override {
    return input < static_cast<int>(grid_->levels.size());
  }
  Saved saved() const override {
    Saved all;
    for (int i = 0; i < num_inputs_; ++i) all.inputs.push_back(i);
    return all;
  }
  LayoutRule layout() const override { return LayoutRule::kAny; }
  PrecisionRule precision() const override { return PrecisionRule::kReads; }

 protected:
  std::shared_ptr<const AnchorGrid> grid_;

 private:
  int num_inputs_;
};

class FocalLossOp final : public LevelLossOp {
 public:
  FocalLossOp(std::shared_ptr<const AnchorGrid> grid, int num_classes)
      : LevelLossOp(grid, static_cast<int>(grid->levels.size()) + 2), num_classes_(num_classes) {}
  std::string name() const override { return "focal_loss"; }
  std::string attributes() const override { return fmt::format("classes {}", num_classes_); }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    if (context.device.kind == comm::DeviceKind::kCuda &&
        levels_lie_in_rows(*grid_, context, num_classes_))
      return compile_focal_loss_rows(*grid_, num_classes_, context);
    return make_kernel<FocalKernel>(context.inputs[0].type, grid_, num_classes_, context);
  }

 private:
  int num_classes_;
};

class BoxLossOp final : public LevelLossOp {
 public:
  explicit BoxLossOp(std::shared_ptr<const AnchorGrid> grid)
      : LevelLossOp(grid, static_cast<int>(grid->levels.size()) + 3) {}
  std::string name() const override { return "box_loss"; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    if (context.device.kind == comm::DeviceKind::kCuda && levels_lie_in_rows(*grid_, context, 4))
      return compile_box_loss_rows(*grid_, context);
    return make_kernel<BoxKernel>(context.inputs[0].type, grid_, context);
  }
};

}  // namespace

Value focal_loss(Graph& graph, std::shared_ptr<const AnchorGrid> anchors,
                 const std::vector<Value>& logits, const Matches& matches, int num_classes) {
  std::vector<Value> inputs = logits;
  inputs.insert(inputs.end(), {matches.target, matches.scale});
  return graph.add(std::make_shared<FocalLossOp>(std::move(anchors), num_classes),
                   std::move(inputs))[0];
}

Value box_loss(Graph& graph, std::shared_ptr<const AnchorGrid> anchors,
               const std::vector<Value>& deltas, Value boxes, const Matches& matches) {
  std::vector<Value> inputs = deltas;
  inputs.insert(inputs.end(), {matches.box, matches.scale, boxes});
  return graph.add(std::make_shared<BoxLossOp>(std::move(anchors)), std::move(inputs))[0];
}

}  // namespace models
