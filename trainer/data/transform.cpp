#include "trainer/data/transform.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "comm/error.h"

namespace trainer {
namespace {

void require_sizes(Size original, Size network) {
  REQUIRE(original.width > 0 && original.height > 0 && network.width > 0 && network.height > 0,
          "sizes {} x {} and {} x {}", original.width, original.height, network.width,
          network.height);
}

// floor(share * number of positions), the last for share = 1
int choose_offset(int slack, double share) {
  if (slack <= 0) return 0;
  return std::clamp(static_cast<int>(std::floor(share * (slack + 1))), 0, slack);
}

template <typename T>
std::vector<T> mirror_columns(const std::vector<T>& pixels, int width, int height, int step) {
  std::vector<T> out(pixels.size());
  const std::size_t row = static_cast<std::size_t>(width) * step;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      std::copy_n(&pixels[y * row + static_cast<std::size_t>(x) * step], step,
                  &out[y * row + static_cast<std::size_t>(width - 1 - x) * step]);
  return out;
}

template <typename T>
std::vector<T> mirror_rows(const std::vector<T>& pixels, int width, int height, int step) {
  std::vector<T> out(pixels.size());
  const std::size_t row = static_cast<std::size_t>(width) * step;
  for (int y = 0; y < height; ++y) std::copy_n(&pixels[y * row], row, &out[(height - 1 - y) * row]);
  return out;
}

Corners unclipped_to_network(const Geometry& g, const Corners& box) {
  double x1 = box[0] * g.scale_x + g.offset_x, x2 = box[2] * g.scale_x + g.offset_x;
  double y1 = box[1] * g.scale_y + g.offset_y, y2 = box[3] * g.scale_y + g.offset_y;
  if (g.flip) x1 = g.content_w - std::exchange(x2, g.content_w - x1);
  if (g.vflip) y1 = g.content_h - std::exchange(y2, g.content_h - y1);
  return {x1, y1, x2, y2};
}

Corners clip(const Corners& box, double width, double height) {
  return {std::clamp(box[0], 0.0, width), std::clamp(box[1], 0.0, height),
          std::clamp(box[2], 0.0, width), std::clamp(box[3], 0.0, height)};
}

double area(const Corners& box) { return (box[2] - box[0]) * (box[3] - box[1]); }

}  // namespace

Geometry fit_geometry(Size original, Size network) {
  require_sizes(original, network);
  const double scale = std::min(static_cast<double>(network.width) / original.width,
                                static_cast<double>(network.height) / original.height);
  Geometry g;
  g.original_w = original.width;
  g.original_h = original.height;
  g.content_w = std::clamp<int>(std::lround(original.width * scale), 1, network.width);
  g.content_h = std::clamp<int>(std::lround(original.height * scale), 1, network.height);
  g.scale_x = static_cast<double>(g.content_w) / original.width;
  g.scale_y = static_cast<double>(g.content_h) / original.height;
  return g;
}

Geometry crop_geometry(Size original, Size network, const CropWindow& window) {
  require_sizes(original, network);
  REQUIRE(window.scale > 0, "scale {}", window.scale);
  const double cover = std::max(static_cast<double>(network.width) / original.width,
                                static_cast<double>(network.height) / original.height);
  const double scale = cover * window.scale;
  const int scaled_w = std::max<int>(std::lround(original.width * scale), 1);
  const int scaled_h = std::max<int>(std::lround(original.height * scale), 1);
  const int left = choose_offset(scaled_w - network.width, window.x);
  const int top = choose_offset(scaled_h - network.height, window.y);
  Geometry g;
  g.original_w = original.width;
  g.original_h = original.height;
  g.scale_x = static_cast<double>(scaled_w) / original.width;
  g.scale_y = static_cast<double>(scaled_h) / original.height;
  g.offset_x = -left;
  g.offset_y = -top;
  g.content_w = std::min(network.width, scaled_w - left);
  g.content_h = std::min(network.height, scaled_h - top);
  return g;
}

Geometry same_geometry(Size original, Size network) {
  require_sizes(original, network);
  if (original != network)
    comm::fail(comm::ExitCode::kData,
               "an image of {} x {} with data.resize none, but data.size is {} x {}; set "
               "data.resize to fit or crop, or resize the images",
               original.width, original.height, network.width, network.height);
  return fit_geometry(original, network);
}

Size scaled_size(const Geometry& g) {
  return {static_cast<int>(std::lround(g.scale_x * g.original_w)),
          static_cast<int>(std::lround(g.scale_y * g.original_h))};
}

Corners to_network(const Geometry& g, const Corners& box) {
  return clip(unclipped_to_network(g, box), g.content_w, g.content_h);
}

double visible_share(const Geometry& g, const Corners& box) {
  const Corners whole = unclipped_to_network(g, box);
  const double whole_area = area(whole);
  return whole_area > 0 ? area(clip(whole, g.content_w, g.content_h)) / whole_area : 0;
}

Corners to_original(const Geometry& g, const Corners& box) {
  double x1 = box[0], y1 = box[1], x2 = box[2], y2 = box[3];
  if (g.flip) x1 = g.content_w - std::exchange(x2, g.content_w - x1);
  if (g.vflip) y1 = g.content_h - std::exchange(y2, g.content_h - y1);
  const Corners original = {(x1 - g.offset_x) / g.scale_x, (y1 - g.offset_y) / g.scale_y,
                            (x2 - g.offset_x) / g.scale_x, (y2 - g.offset_y) / g.scale_y};
  return clip(original, g.original_w, g.original_h);
}

Image flip_horizontal(const Image& image) {
  return {image.width, image.height, mirror_columns(image.rgb, image.width, image.height, 3)};
}

Image flip_vertical(const Image& image) {
  return {image.width, image.height, mirror_rows(image.rgb, image.width, image.height, 3)};
}

LabelImage flip_horizontal(const LabelImage& labels) {
  return {labels.width, labels.height,
          mirror_columns(labels.pixels, labels.width, labels.height, 1)};
}

LabelImage flip_vertical(const LabelImage& labels) {
  return {labels.width, labels.height, mirror_rows(labels.pixels, labels.width, labels.height, 1)};
}

}  // namespace trainer
