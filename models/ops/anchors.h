#pragma once

#include <memory>
#include <span>
#include <vector>

#include "comm/parallel.h"
#include "models/graph/value.h"

namespace models {

// Anchors of a feature pyramid in torchvision's order (AnchorGenerator): levels, then rows,
// columns, then ratios, then sizes. Boxes are (x1, y1, x2, y2) in network pixels.
struct AnchorGrid {
  struct Level {
    std::int64_t height, width;  // cells
    std::int64_t first;          // index of its first anchor
  };
  std::vector<Level> levels;
  int per_cell = 0;
  std::vector<float> boxes;  // (total, 4)

  std::int64_t total() const { return static_cast<std::int64_t>(boxes.size()) / 4; }
};

// `sizes` holds the smallest anchor of each level; each level has size * 2^(0, 1/3, 2/3), truncated
// to whole pixels, in every ratio (height / width). `maps` are the levels' feature shapes
// (N, C, H, W). An anchor's centre is cell index * stride, stride = image extent / map extent.
std::shared_ptr<const AnchorGrid> make_anchors(std::int64_t image_height, std::int64_t image_width,
                                               std::span<const Shape> maps,
                                               std::span<const int> sizes,
                                               std::span<const double> ratios);

struct alignas(16) Box {  // one load of a GPU
  float x1, y1, x2, y2;
};

// Intersection over union; 0 / 0 is 0.
RIDGELINE_HD inline float box_iou(const Box& a, const Box& b) {
  const float w = std::fmin(a.x2, b.x2) - std::fmax(a.x1, b.x1);
  const float h = std::fmin(a.y2, b.y2) - std::fmax(a.y1, b.y1);
  const float inter = (w > 0.0f ? w : 0.0f) * (h > 0.0f ? h : 0.0f);
  const float area = (a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - inter;
  return area > 0.0f ? inter / area : 0.0f;
}

// Regression target j of a box against an anchor (Girshick et al. 2014, weights 1):
//   ((gx - ax) / aw, (gy - ay) / ah, log(gw / aw), log(gh / ah))
RIDGELINE_HD inline float encode_box(const Box& anchor, const Box& box, int j) {
  const float aw = anchor.x2 - anchor.x1, ah = anchor.y2 - anchor.y1;
  const float gw = box.x2 - box.x1, gh = box.y2 - box.y1;
  switch (j) {
    case 0: return (box.x1 + 0.5f * gw - (anchor.x1 + 0.5f * aw)) / aw;
    case 1: return (box.y1 + 0.5f * gh - (anchor.y1 + 0.5f * ah)) / ah;
    case 2: return std::log(gw / aw);
    default: return std::log(gh / ah);
  }
}

// The inverse; dw and dh are clamped to log(1000 / 16), as torchvision does.
RIDGELINE_HD inline Box decode_box(const Box& anchor, const float delta[4]) {
  const float aw = anchor.x2 - anchor.x1, ah = anchor.y2 - anchor.y1;
  const float limit = 4.135166556742356f;
  const float cx = delta[0] * aw + (anchor.x1 + 0.5f * aw);
  const float cy = delta[1] * ah + (anchor.y1 + 0.5f * ah);
  const float w = std::exp(std::fmin(delta[2], limit)) * aw;
  const float h = std::exp(std::fmin(delta[3], limit)) * ah;
  return {cx - 0.5f * w, cy - 0.5f * h, cx + 0.5f * w, cy + 0.5f * h};
}

}  // namespace models
