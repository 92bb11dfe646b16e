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
  std::int64_t num_anchors, capacity;
};

// Anchors that one thread looks at for a box: few boxes would leave a GPU idle with one thread
// each.
constexpr std::int64_t kPiece = 1024;

// Highest IoU of a box with the anchors of a piece.
struct BestOfPiece {
  Inputs in;
  std::int64_t num_pieces;
  float* best;  // (N, M, num_pieces)
  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t box = i / num_pieces;
    float highest = 0.0f;
    if (box % in.capacity < in.count[box / in.capacity]) {
      const std::int64_t begin = i % num_pieces * kPiece;
      const std::int64_t end = begin + kPiece < in.num_anchors ? begin + kPiece : in.num_anchors;
      for (std::int64_t a = begin; a < end; ++a) {
        const float iou = box_iou(in.boxes[box], in.anchors[a]);
        highest = iou > highest ? iou : highest;
      }
    }
    best[i] = highest;
  }
};

// best(n, g) = highest IoU of box g with any anchor
struct BestOfBox {
  const float* of_piece;
  std::int64_t num_pieces;
  float* best;  // (N, M)
  RIDGELINE_HD void operator()(std::int64_t i) const {
    float highest = 0.0f;
    for (std::int64_t p = i * num_pieces; p < (i + 1) * num_pieces; ++p) {
      highest = of_piece[p] > highest ? of_piece[p] : highest;
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
    const std::int64_t n = i / in.num_anchors;
    const Box anchor = in.anchors[i % in.num_anchors];
    float highest = -1.0f;
    std::int32_t chosen = kBackground;
    bool is_best = false;
    for (std::int32_t g = 0; g < in.count[n]; ++g) {
      const float iou = box_iou(in.boxes[n * in.capacity + g], anchor);
      if (iou > highest) {
        highest = iou;
        chosen = g;
      }
      is_best |= iou > 0.0f && iou == best[n * in.capacity + g];
    }
    if (!is_best && highest < high) chosen = highest < low ? kBackground : kIgnored;
    match[i] = chosen;
    target[i] = chosen >= 0 ? in.labels[n * in.capacity + chosen] : chosen;
  }
};

struct IsPositive {
  const std::int32_t* match;
  RIDGELINE_HD double operator()(std::int64_t a) const { return match[a] >= 0 ? 1.0 : 0.0; }
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
        num_pieces_((grid.total() + kPiece - 1) / kPiece),
        anchors_(context.device, grid.boxes.size() * sizeof(float)) {
    comm::copy_bytes(stream_, anchors_.bytes(), std::as_bytes(std::span(grid.boxes)));
    stream_.synchronize();
  }

  std::int64_t workspace_bytes() const override {
    return (comm::num_reduce_blocks(num_anchors_) + images_) * 8 +
           images_ * capacity_ * (1 + num_pieces_) * 4;
  }

  void forward(const KernelArgs& args) override {
    const Inputs in{reinterpret_cast<const Box*>(anchors_.bytes().data()),
                    args.inputs[0].as<const Box>(),
                    args.inputs[1].as<const std::int32_t>(),
                    args.inputs[2].as<const std::int32_t>(),
                    num_anchors_,
                    capacity_};
    const auto blocks = static_cast<std::size_t>(comm::num_reduce_blocks(num_anchors_));
    auto* sums = reinterpret_cast<double*>(args.workspace.data());
    double* positives = sums + blocks;
    auto* best = reinterpret_cast<float*>(positives + images_);
    float* of_piece = best + images_ * capacity_;
    auto* match = args.outputs[1].as<std::int32_t>();
    comm::parallel_for(stream_, images_ * capacity_ * num_pieces_,
                       BestOfPiece{in, num_pieces_, of_piece}, 4);
    comm::parallel_for(stream_, images_ * capacity_, BestOfBox{of_piece, num_pieces_, best}, 64);
    comm::parallel_for(
        stream_, images_ * num_anchors_,
        BoxOfAnchor{in, best, args.outputs[0].as<std::int32_t>(), match, low_, high_}, 512);
    for (std::int64_t n = 0; n < images_; ++n) {
      comm::parallel_reduce(stream_, num_anchors_, IsPositive{match + n * num_anchors_},
                            std::span<double>(sums, blocks), std::span<double>(positives + n, 1));
    }
    comm::parallel_for(stream_, images_, Normaliser{positives, args.outputs[2].f32(), images_});
  }

 private:
  comm::StreamView stream_;
  float low_, high_;
  std::int64_t images_, capacity_, num_anchors_, num_pieces_;
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
