#include "models/ops/detect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "models/graph/element.h"
#include "models/ops/fast_math.h"
#include "models/ops/on_host.h"

namespace models {
namespace {

struct Candidate {
  float logit;
  std::int64_t order;   // index inside the level in (H, W, A, K) order
  std::int64_t anchor;  // over all levels
  std::int32_t label;
};

bool better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.order < b.order;
}

float at(const Tensor& t, std::int64_t n, std::int64_t c, std::int64_t cell) {
  const std::int64_t block = t.channel_block, cells = t.shape[2] * t.shape[3];
  const std::int64_t blocks = (t.shape[1] + block - 1) / block;
  const std::int64_t i = ((n * blocks + c / block) * cells + cell) * block + c % block;
  return t.type == Type::kBF16 ? float{t.as<comm::Bf16>()[i]} : t.f32()[i];
}

class DetectKernel final : public Kernel {
 public:
  DetectKernel(std::shared_ptr<const AnchorGrid> grid, const DetectOptions& options,
               std::int64_t height, std::int64_t width, const KernelContext& context)
      : grid_(std::move(grid)),
        options_(options),
        height_(static_cast<float>(height)),
        width_(static_cast<float>(width)),
        stream_(context.stream) {}

  void forward(const KernelArgs& args) override {
    comm::parallel_for(
        stream_, args.outputs[0].shape[0], [&](std::int64_t n) { image(args, n); }, 1);
  }

 private:
  // The level's best candidates, best first. A logit that is no number is none, and sets `broken`.
  std::vector<Candidate> candidates(const Tensor& logits, std::size_t level, std::int64_t n,
                                    bool& broken) const {
    const std::int64_t cells = logits.shape[2] * logits.shape[3];
    // sigmoid(x) > t <=> x > log(t / (1 - t))
    const float t = std::clamp(options_.score_threshold, 0.0f, 1.0f);
    const float threshold = std::log(t) - std::log1p(-t);
    std::vector<Candidate> found;
    for (std::int64_t cell = 0; cell < cells; ++cell) {
      for (std::int64_t c = 0; c < logits.shape[1]; ++c) {
        const float x = at(logits, n, c, cell);
        if (!(x > threshold)) {
          broken |= std::isnan(x);
          continue;
        }
        const std::int64_t anchor =
            grid_->levels[level].first + cell * grid_->per_cell + c / options_.num_classes;
        found.push_back({x, cell * logits.shape[1] + c, anchor,
                         static_cast<std::int32_t>(c % options_.num_classes)});
      }
    }
    const auto keep = std::min<std::size_t>(found.size(), options_.per_level);
    std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(keep),
                      found.end(), better);
    found.resize(keep);
    return found;
  }

  Box decode(const Tensor& deltas, std::size_t level, std::int64_t n, std::int64_t anchor) const {
    const std::int64_t local = anchor - grid_->levels[level].first;
    float delta[4];
    for (int j = 0; j < 4; ++j) {
      delta[j] = at(deltas, n, local % grid_->per_cell * 4 + j, local / grid_->per_cell);
    }
    const float* a = grid_->boxes.data() + anchor * 4;
    Box box = decode_box({a[0], a[1], a[2], a[3]}, delta);
    box.x1 = std::clamp(box.x1, 0.0f, width_);
    box.y1 = std::clamp(box.y1, 0.0f, height_);
    box.x2 = std::clamp(box.x2, 0.0f, width_);
    box.y2 = std::clamp(box.y2, 0.0f, height_);
    return box;
  }

  void image(const KernelArgs& args, std::int64_t n) const {
    const std::size_t num_levels = grid_->levels.size();
    std::vector<Candidate> all;
    std::vector<Box> decoded;
    bool broken = false;
    for (std::size_t l = 0; l < num_levels; ++l) {
      for (const Candidate& c : candidates(args.inputs[l], l, n, broken)) {
        all.push_back(c);
        decoded.push_back(decode(args.inputs[num_levels + l], l, n, c.anchor));
      }
    }
    std::vector<int> order(all.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return all[a].logit > all[b].logit; });
    std::vector<Box> boxes;
    std::vector<std::int32_t> labels;
    for (int i : order) {
      boxes.push_back(decoded[i]);
      labels.push_back(all[i].label);
    }
    const std::vector<int> kept = nms(boxes, labels, options_.nms_iou);
    const auto count = std::min<std::int64_t>(kept.size(), options_.capacity);
    for (std::int64_t k = 0; k < options_.capacity; ++k) {
      const std::int64_t slot = n * options_.capacity + k;
      const bool exists = k < count;
      const int i = exists ? kept[k] : 0;
      args.outputs[0].as<Box>()[slot] = exists ? boxes[i] : Box{0, 0, 0, 0};
      args.outputs[1].f32()[slot] = broken   ? std::numeric_limits<float>::quiet_NaN()
                                    : exists ? sigmoid_parts(all[order[i]].logit).p
                                             : 0.0f;
      args.outputs[2].as<std::int32_t>()[slot] = exists ? labels[i] : 0;
    }
    args.outputs[3].as<std::int32_t>()[n] = static_cast<std::int32_t>(count);
  }

  std::shared_ptr<const AnchorGrid> grid_;
  DetectOptions options_;
  float height_, width_;
  comm::StreamView stream_;
};

class DetectOp final : public Op {
 public:
  DetectOp(std::shared_ptr<const AnchorGrid> grid, const DetectOptions& options,
           std::int64_t height, std::int64_t width)
      : grid_(std::move(grid)), options_(options), height_(height), width_(width) {}
  std::string name() const override { return "detect"; }
  std::string attributes() const override {
    return fmt::format("score {:g} nms {:g} capacity {}", options_.score_threshold,
                       options_.nms_iou, options_.capacity);
  }
  std::vector<ValueSpec> infer(std::span<const ValueSpec> inputs) const override {
    const std::int64_t n = inputs[0].shape[0], d = options_.capacity;
    return {{Type::kF32, {n, d, 4}}, {Type::kF32, {n, d}}, {Type::kI32, {n, d}}, {Type::kI32, {n}}};
  }
  bool differentiable(int) const override { return false; }
  LayoutRule layout() const override { return LayoutRule::kAny; }
  PrecisionRule precision() const override { return PrecisionRule::kReads; }
  std::unique_ptr<Kernel> compile(const KernelContext& context) const override {
    const auto make = [this](const KernelContext& host) {
      return std::make_unique<DetectKernel>(grid_, options_, height_, width_, host);
    };
    if (context.device.kind == comm::DeviceKind::kCpu) return make(context);
    return run_on_host(context, make);
  }

 private:
  std::shared_ptr<const AnchorGrid> grid_;
  DetectOptions options_;
  std::int64_t height_, width_;
};

}  // namespace

std::vector<int> nms(std::span<const Box> boxes, std::span<const std::int32_t> labels, float iou) {
  std::vector<int> kept;
  for (int i = 0; i < static_cast<int>(boxes.size()); ++i) {
    const bool suppressed = std::any_of(kept.begin(), kept.end(), [&](int k) {
      return labels[k] == labels[i] && box_iou(boxes[k], boxes[i]) > iou;
    });
    if (!suppressed) kept.push_back(i);
  }
  return kept;
}

Detections detect(Graph& graph, std::shared_ptr<const AnchorGrid> anchors,
                  const std::vector<Value>& logits, const std::vector<Value>& deltas,
                  std::int64_t height, std::int64_t width, const DetectOptions& options) {
  std::vector<Value> inputs = logits;
  inputs.insert(inputs.end(), deltas.begin(), deltas.end());
  const auto outputs = graph.add(
      std::make_shared<DetectOp>(std::move(anchors), options, height, width), std::move(inputs));
  return {outputs[0], outputs[1], outputs[2], outputs[3]};
}

}  // namespace models
