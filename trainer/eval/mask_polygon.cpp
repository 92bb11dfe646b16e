#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "trainer/eval/mask_rle.h"

namespace trainer {
namespace {

constexpr double kScale = 5;
// Beyond it the fine grid's coordinates would leave 32 bits.
constexpr double kMaxCoordinate = 1e7;

struct Point {
  int x = 0, y = 0;
};

// Collects where the boundary crosses a column's centre, as column-major pixel positions. The mask
// changes its value at each.
class CrossingCollector {
 public:
  CrossingCollector(std::int64_t height, std::int64_t width) : height_(height), width_(width) {}

  // Next point of the walk on the fine grid.
  void visit(Point point) {
    if (started_ && point.x != previous_.x) cross(previous_, point);
    previous_ = point;
    started_ = true;
  }

  std::vector<std::int64_t> take_sorted() {
    std::sort(crossings_.begin(), crossings_.end());
    return std::move(crossings_);
  }

 private:
  void cross(Point from, Point to) {
    const double column = (std::min(from.x, to.x) + .5) / kScale - .5;
    if (std::floor(column) != column || column < 0 || column > static_cast<double>(width_ - 1)) {
      return;
    }
    const double y = (std::min(from.y, to.y) + .5) / kScale - .5;
    const double row = std::ceil(std::clamp(y, 0.0, static_cast<double>(height_)));
    crossings_.push_back(static_cast<std::int64_t>(column) * height_ +
                         static_cast<std::int64_t>(row));
  }

  std::int64_t height_, width_;
  std::vector<std::int64_t> crossings_;
  Point previous_;
  bool started_ = false;
};

// Every point of the edge from a to b. An edge is always computed from its left (or upper) end, so
// that two polygons that share it round alike.
void walk_edge(Point a, Point b, CrossingCollector& crossings) {
  const int dx = std::abs(b.x - a.x), dy = std::abs(b.y - a.y);
  const bool along_x = dx >= dy;
  const bool reversed = along_x ? a.x > b.x : a.y > b.y;
  if (reversed) std::swap(a, b);
  const int length = along_x ? dx : dy;
  const double rise = along_x ? b.y - a.y : b.x - a.x;
  const double slope = length == 0 ? 0 : rise / length;
  for (int d = 0; d <= length; ++d) {
    const int t = reversed ? length - d : d;
    crossings.visit(along_x ? Point{a.x + t, static_cast<int>(a.y + slope * t + .5)}
                            : Point{static_cast<int>(a.x + slope * t + .5), a.y + t});
  }
}

int fine(double coordinate) {
  if (!(std::abs(coordinate) <= kMaxCoordinate)) {
    throw std::invalid_argument("polygon coordinate " + std::to_string(coordinate) +
                                " is out of range");
  }
  return static_cast<int>(kScale * coordinate + .5);
}

}  // namespace

Rle rle_from_polygon(std::span<const double> xy, std::int64_t height, std::int64_t width) {
  if (xy.size() < 6 || xy.size() % 2 != 0) {
    throw std::invalid_argument("polygon of " + std::to_string(xy.size()) +
                                " numbers; it takes x, y of 3 points or more");
  }
  std::vector<Point> corners;
  for (std::size_t i = 0; i < xy.size(); i += 2) corners.push_back({fine(xy[i]), fine(xy[i + 1])});
  CrossingCollector collector(height, width);
  for (std::size_t i = 0; i < corners.size(); ++i) {
    walk_edge(corners[i], corners[(i + 1) % corners.size()], collector);
  }
  std::vector<std::int64_t> counts;
  std::int64_t at = 0;
  for (const std::int64_t crossing : collector.take_sorted()) {
    counts.push_back(crossing - at);
    at = crossing;
  }
  counts.push_back(height * width - at);
  return rle_from_counts(counts, height, width);
}

Rle rle_from_box(const std::array<double, 4>& box, std::int64_t height, std::int64_t width) {
  const double x0 = box[0], y0 = box[1], x1 = box[0] + box[2], y1 = box[1] + box[3];
  const std::array<double, 8> corners = {x0, y0, x0, y1, x1, y1, x1, y0};
  return rle_from_polygon(corners, height, width);
}

}  // namespace trainer
