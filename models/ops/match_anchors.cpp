#include "models/ops/match_anchors.h"

#include <fmt/format.h>

#include "comm/buffer.h"

namespace models {
namespace {

struct Inputs {
  const Box* anchors;          // (A)
  const Box* boxes;            // (N, M)
  const std::int32_t* labels;  // (N, M)
  const std::int32_t* count;   // (N)
  std::uint32_t num_anchors, capacity;

  RIDGELINE_HD bool exists(std::uint32_t box) const {
    return static_cast<std::int32_t>(box % capacity) < count[box / capacity];
  }
};

// Anchors that one thread looks at for a box: few boxes would leave a GPU idle with one thread
// each. Ranges on a CPU; on a GPU shorter, and neighbouring threads look at neighbouring anchors.
constexpr std::uint32_t kRange = 1024, kStrided = 64;
constexpr int kInFlight = 4;  // loads of a thread on a GPU, before the first is used

// Highest IoU of a box with the anchors of a piece; nothing for boxes that do not exist.
template <bool kOnGpu>
struct BestOfPiece {
  Inputs in;
  std::uint32_t num_pieces;
  float* best;  // (N, M, num_pieces)
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const auto index = static_cast<std::uint32_t>(i);
    const std::uint32_t at = index / num_pieces, piece = index - at * num_pieces;
    if (!in.exists(at)) return;
    const Box box = in.boxes[at];
    float highest = 0.0f;
    const auto look_at = [&](const Box& anchor) {
      const float iou = box_iou(box, anchor);
      highest = iou > highest ? iou : highest;
    };
    if constexpr (kOnGpu) {
      const std::uint32_t last = in.num_anchors - 1;
      for (std::uint32_t a = piece; a <= last; a += kInFlight * num_pieces) {
        Box anchors[kInFlight];  // past the last it comes again, which changes no maximum
        comm::each(comm::Lanes<kInFlight>{}, [&](int k) {
          const std::uint32_t next = a + static_cast<std::uint32_t>(k) * num_pieces;
          anchors[k] = in.anchors[next < last ? next : last];
        });
        comm::each(comm::Lanes<kInFlight>{}, [&](int k) { look_at(anchors[k]); });
      }
    } else {
      const std::int64_t begin = std::int64_t{piece} * kRange, all = in.num_anchors;
      const std::int64_t end = begin + kRange < all ? begin + kRange : all;
      for (std::int64_t a = begin; a < end; ++a) look_at(in.anchors[a]);
    }
    best[i] = highest;
  }
};

// The highest of every `step`-th of a box's values: step(n, g, p) from values p, p + step, ...
struct Highest {
  Inputs in;
  const float* of_piece;  // (N, M, num_pieces)
  std::uint32_t num_pieces, step;
  float* best;  // (N, M, step)
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const auto index = static_cast<std::uint32_t>(i);
    const std::uint32_t box = index / step;
    if (!in.exists(box)) return;
    const float* const values = of_piece + std::int64_t{box} * num_pieces;
    float highest = 0.0f;
    for (std::uint32_t p = index - box * step; p < num_pieces; p += step) {
      highest = values[p] > highest ? values[p] : highest;
    }
    best[i] = highest;
  }
};

// The box of anchor (n, a): the first of highest IoU; kept below `high` only if the anchor is the
// best of some box.
struct BoxOfAnchor {
  Inputs in;
  const float* best;
  std::int32_t *target, *match;  // (N, A)
  float low, high;
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::uint32_t n = static_cast<std::uint32_t>(i) / in.num_anchors;
    const Box anchor = in.anchors[i - std::int64_t{n} * in.num_anchors];
    const std::int64_t first = std::int64_t{n} * in.capacity;
    float highest = -1.0f;
    std::int32_t chosen = kBackground;
    bool is_best = false;
    for (std::int32_t g = 0; g < in.count[n]; ++g) {
      const float iou = box_iou(in.boxes[first + g], anchor);
      if (iou > highest) {
        highest = iou;
        chosen = g;
      }
      is_best |= iou > 0.0f && iou == best[first + g];
    }
    if (!is_best && highest < high) chosen = highest < low ? kBackground : kIgnored;
    match[i] = chosen;
    target[i] = chosen >= 0 ? in.labels[first + chosen] : chosen;
  }
};

// Images in whole leaves of a sum, so that one launch counts the positives of all.
struct IsPositive {
  const std::int32_t* match;  // (N, A)
  std::uint32_t num_anchors, num_slots;
  RIDGELINE_HD double operator()(std::int64_t i) const {
    const std::uint32_t n = static_cast<std::uint32_t>(i) / num_slots;
    const std::uint32_t a = static_cast<std::uint32_t>(i) - n * num_slots;
    return a < num_anchors && match[std::int64_t{n} * num_anchors + a] >= 0 ? 1.0 : 0.0;
  }
};

// An image is one leaf. Exact, so in any order.
struct LeavesOfImage {
  const double* sums;  // (N, num_leaves)
  std::int64_t num_leaves;
  RIDGELINE_HD double operator()(std::int64_t i) const {
    const double* const of_image = sums + i / comm::kReduceBlock * num_leaves;
    double sum = 0.0;
    for (std::int64_t leaf = i % comm::kReduceBlock; leaf < num_leaves; leaf += comm::kReduceBlock)
      sum += of_image[leaf];
    return sum;
  }
};

struct Normaliser {
  const double* positives;
  float* scale;
  std::int64_t images;
  RIDGELINE_HD void operator()(std::int64_t n) const {
    const double count = positives[n] > 1.0 ? positives[n] : 1.0;
    scale[n] = static_cast<float>(1.0 / (count * static_cast<double>(images)));
  }
};

class MatchKernel final : public Kernel {
 public:
  MatchKernel(const AnchorGrid& grid, float low, float high, const KernelContext& context)
      : stream_(context.stream),
        low_(low),
        high_(high),
        images_(context.inputs[0].shape[0]),
        capacity_(context.inputs[0].shape[1]),
        num_anchors_(grid.total()),
        num_pieces_(comm::num_blocks(grid.total(), stream_.on_cpu() ? kRange : kStrided)),
        num_leaves_(comm::num_reduce_blocks(grid.total())),
        anchors_(context.device, grid.boxes.size() * sizeof(float)) {
    const std::int64_t largest =
        images_ * std::max(capacity_ * num_pieces_, num_leaves_ * comm::kReduceBlock);
    REQUIRE(largest < std::int64_t{1} << 31, "{} images of {} anchors", images_, num_anchors_);
    comm::copy_bytes(stream_, anchors_.bytes(), std::as_bytes(std::span(grid.boxes)));
    stream_.synchronize();
  }

  std::int64_t workspace_bytes() const override {
    const std::int64_t per_box = 1 + num_pieces_ + (stream_.on_cpu() ? 0 : kFolds);
    return images_ * (num_leaves_ + 1) * 8 + images_ * capacity_ * per_box * 4;
  }

  void forward(const KernelArgs& args) override {
    const Inputs in{reinterpret_cast<const Box*>(anchors_.bytes().data()),
                    args.inputs[0].as<const Box>(),
                    args.inputs[1].as<const std::int32_t>(),
                    args.inputs[2].as<const std::int32_t>(),
                    static_cast<std::uint32_t>(num_anchors_),
                    static_cast<std::uint32_t>(capacity_)};
    auto* sums = reinterpret_cast<double*>(args.workspace.data());
    double* positives = sums + images_ * num_leaves_;
    auto* best = reinterpret_cast<float*>(positives + images_);
    find_best(in, best, best + images_ * capacity_);
    auto* match = args.outputs[1].as<std::int32_t>();
    comm::parallel_for(
        stream_, images_ * num_anchors_,
        BoxOfAnchor{in, best, args.outputs[0].as<std::int32_t>(), match, low_, high_}, 512);
    count_positives(match, sums, positives);
    comm::parallel_for(stream_, images_, Normaliser{positives, args.outputs[2].f32(), images_});
  }

 private:
  static constexpr std::int64_t kFolds = 32;  // threads that fold a box's pieces on a GPU

  // best(n, g) = highest IoU of box g with any anchor
  void find_best(const Inputs& in, float* best, float* of_piece) const {
    const auto num_pieces = static_cast<std::uint32_t>(num_pieces_);
    const std::int64_t boxes = images_ * capacity_;
    if (stream_.on_cpu()) {
      comm::parallel_for(stream_, boxes * num_pieces_, BestOfPiece<false>{in, num_pieces, of_piece},
                         4);
      return comm::parallel_for(stream_, boxes, Highest{in, of_piece, num_pieces, 1, best}, 64);
    }
    float* folded = of_piece + boxes * num_pieces_;
    comm::parallel_for(stream_, boxes * num_pieces_, BestOfPiece<true>{in, num_pieces, of_piece});
    comm::parallel_for(stream_, boxes * kFolds, Highest{in, of_piece, num_pieces, kFolds, folded});
    comm::parallel_for(stream_, boxes, Highest{in, folded, kFolds, 1, best});
  }

  void count_positives(const std::int32_t* match, double* sums, double* positives) const {
    const std::int64_t num_slots = num_leaves_ * comm::kReduceBlock;
    const IsPositive is_positive{match, static_cast<std::uint32_t>(num_anchors_),
                                 static_cast<std::uint32_t>(num_slots)};
    comm::parallel_block_sums(stream_, images_ * num_slots, is_positive,
                              {sums, static_cast<std::size_t>(images_ * num_leaves_)});
    comm::parallel_block_sums(stream_, images_ * comm::kReduceBlock,
                              LeavesOfImage{sums, num_leaves_},
                              {positives, static_cast<std::size_t>(images_)});
  }

  comm::StreamView stream_;
  float low_, high_;
  std::int64_t images_, capacity_, num_anchors_, num_pieces_, num_leaves_;
  comm::Buffer anchors_;  // (A, 4)
};

class MatchAnchorsOp final : public Op {
 public:
  MatchAnchorsOp(std::shared_ptr<const AnchorGrid> grid, float low, float high)
      : grid_(std::move(grid)), low_(low), high_(high) {}
  std::string name() const override { return "match_anchors"; }
  std::string attributes() const override {
    return fmt::format("anchors {} low {:g} high {:g}", grid_->total(), low_, high_);
  }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    const Shape& boxes = inputs[0].shape;
    REQUIRE(boxes.rank == 3 && boxes[2] == 4 && inputs[1].type == Type::kI32 &&
                inputs[2].type == Type::kI32,
            "match_anchors of {}", to_string(boxes));
    const Shape per_anchor = {boxes[0], grid_->total()};
    return {{Type::kI32, per_anchor}, {Type::kI32, per_anchor}, {Type::kF32, {boxes[0]}}};
  }
  bool differentiable(int) const override { return false; }
  LayoutRule layout() const override { return LayoutRule::kPlain; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    return std::make_unique<MatchKernel>(*grid_, low_, high_, context);
  }

 private:
  std::shared_ptr<const AnchorGrid> grid_;
  float low_, high_;
};

}  // namespace

Matches match_anchors(Graph& graph, std::shared_ptr<const AnchorGrid> anchors, Value boxes,
                      Value labels, Value count, float low, float high) {
  const auto outputs = graph.add(std::make_shared<MatchAnchorsOp>(std::move(anchors), low, high),
                                 {boxes, labels, count});
  return {outputs[0], outputs[1], outputs[2]};
}

}  // namespace models
