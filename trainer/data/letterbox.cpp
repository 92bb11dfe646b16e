#include "trainer/data/letterbox.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "comm/error.h"

namespace trainer {
namespace {

constexpr int kLanes = 4;  // r, g, b and one that is thrown away: a whole vector register

// One axis of the content: where its pixels lie on the scaled axis, and the source it is cut from.
struct Axis {
  int content = 0;  // pixels to make
  int offset = 0;   // of the first one on the scaled axis
  bool flip = false;
  int scaled = 0;     // length of the scaled axis
  int source = 0;     // pixels there are
  double extent = 0;  // what the scaled axis covers, in source pixels: <= source
  int position(int i) const { return offset + (flip ? content - 1 - i : i); }
};

Axis axis_of(const Geometry& g, bool horizontal, int source, int shrink) {
  const Size scaled = scaled_size(g);
  if (horizontal)
    return {g.content_w, -static_cast<int>(g.offset_x),
            g.flip,      scaled.width,
            source,      static_cast<double>(g.original_w) / shrink};
  return {g.content_h, -static_cast<int>(g.offset_y),
          g.vflip,     scaled.height,
          source,      static_cast<double>(g.original_h) / shrink};
}

// The filter of one axis: pixel i is the sum over k < num of weight[i num + k] source[start[i] +
// k]. Weights beyond the filter are 0, and start + num may pass the end of the source.
struct Taps {
  int num = 0;
  std::vector<int> start;
  std::vector<float> weight;
};

// w(t) = max(0, 1 - |t| / factor), normalised to sum 1, factor = max(1, source / scaled)
Taps triangle_taps(const Axis& axis) {
  const double step = axis.extent / axis.scaled;
  const double factor = std::max(step, 1.0);
  Taps taps;
  taps.num = static_cast<int>(std::ceil(2 * factor));  // whole numbers in an open interval of 2 f
  taps.start.resize(axis.content);
  taps.weight.assign(static_cast<std::size_t>(axis.content) * taps.num, 0.0f);
  std::vector<double> weights(taps.num);
  for (int i = 0; i < axis.content; ++i) {
    const double center = (axis.position(i) + 0.5) * step;
    const int first =
        std::clamp(static_cast<int>(std::floor(center - factor - 0.5)) + 1, 0, axis.source - 1);
    const int num = std::min(taps.num, axis.source - first);
    double sum = 0;
    for (int k = 0; k < num; ++k) {
      weights[k] = std::max(0.0, 1.0 - std::abs(first + k + 0.5 - center) / factor);
      sum += weights[k];
    }
    taps.start[i] = first;
    float* out = &taps.weight[static_cast<std::size_t>(i) * taps.num];
    for (int k = 0; k < num; ++k) out[k] = static_cast<float>(sum > 0 ? weights[k] / sum : k == 0);
  }
  return taps;
}

// Two neighbours of the half-pixel centre, clamped at the borders.
Taps bilinear_taps(const Axis& axis) {
  const double step = axis.extent / axis.scaled;
  Taps taps;
  taps.num = 2;
  taps.start.resize(axis.content);
  taps.weight.resize(std::size_t{2} * axis.content);
  for (int i = 0; i < axis.content; ++i) {
    const double at = std::clamp((axis.position(i) + 0.5) * step - 0.5, 0.0, axis.source - 1.0);
    taps.start[i] = static_cast<int>(at);
    const double right = at - taps.start[i];
    taps.weight[2 * i] = static_cast<float>(1 - right);
    taps.weight[2 * i + 1] = static_cast<float>(right);
  }
  return taps;
}

// row[j] = sum over k of weight[k] rows[k][j], over the source's rows first .. first + num - 1
void mix_rows(const Image& image, int first, std::span<const float> weight, float* __restrict row) {
  const std::size_t row_values = std::size_t{3} * image.width;
  const std::uint8_t* source = image.rgb.data() + first * row_values;
  for (std::size_t j = 0; j < row_values; ++j) row[j] = weight[0] * source[j];
  std::size_t k = 1;
  for (; k + 1 < weight.size(); k += 2) {  // in pairs: half the traffic of `row`
    if (weight[k] == 0) return;
    const std::uint8_t* __restrict a = source + k * row_values;
    const std::uint8_t* __restrict b = weight[k + 1] == 0 ? a : a + row_values;
    const float wa = weight[k], wb = weight[k + 1];
    for (std::size_t j = 0; j < row_values; ++j) row[j] += wa * a[j] + wb * b[j];
  }
  if (k < weight.size() && weight[k] != 0) {
    const std::uint8_t* __restrict a = source + k * row_values;
    const float wa = weight[k];
    for (std::size_t j = 0; j < row_values; ++j) row[j] += wa * a[j];
  }
}

struct Planes {
  float* plane[3];
  float gain[3];  // out = gain v + shift
  float shift[3];
};

// One output row from a mixed source row of interleaved values.
void mix_columns(const float* __restrict row, const Taps& taps, const Planes& planes,
                 std::size_t at) {
  const int num = taps.num;
  const std::size_t num_pixels = taps.start.size();
  for (std::size_t x = 0; x < num_pixels; ++x) {
    const float* __restrict source = row + std::size_t{3} * taps.start[x];
    const float* __restrict weight = &taps.weight[x * num];
    float sum[kLanes] = {};
    for (int k = 0; k < num; ++k)
      for (int c = 0; c < kLanes; ++c) sum[c] += weight[k] * source[3 * k + c];
    for (int c = 0; c < 3; ++c) planes.plane[c][at + x] = planes.gain[c] * sum[c] + planes.shift[c];
  }
}

// No scaling: (v / 255 - mean) / std in the order of operations of torchvision, to the same bits.
void copy_content(const Image& image, const Geometry& g, Size network,
                  const Normalization& normalization, float* out) {
  float table[3][256];
  for (int c = 0; c < 3; ++c)
    for (int v = 0; v < 256; ++v)
      table[c][v] = (static_cast<float>(v) / 255.0f - normalization.mean[c]) / normalization.std[c];
  const Axis columns = axis_of(g, true, image.width, 1);
  const Axis rows = axis_of(g, false, image.height, 1);
  const std::size_t plane = static_cast<std::size_t>(network.width) * network.height;
  const int step = g.flip ? -3 : 3;
  for (int y = 0; y < g.content_h; ++y) {
    const std::size_t from =
        static_cast<std::size_t>(rows.position(y)) * image.width + columns.position(0);
    const std::uint8_t* source = image.rgb.data() + 3 * from;
    float* row = out + static_cast<std::size_t>(y) * network.width;
    for (int x = 0; x < g.content_w; ++x, source += step)
      for (int c = 0; c < 3; ++c) row[c * plane + x] = table[c][source[c]];
  }
}

void resize_content(const Image& image, const Geometry& g, Size network,
                    const LetterboxOptions& options, float* out) {
  const Axis columns = axis_of(g, true, image.width, options.shrink);
  const Axis rows = axis_of(g, false, image.height, options.shrink);
  const Taps across = options.antialias ? triangle_taps(columns) : bilinear_taps(columns);
  const Taps down = options.antialias ? triangle_taps(rows) : bilinear_taps(rows);
  const std::size_t plane = static_cast<std::size_t>(network.width) * network.height;
  Planes planes;
  for (int c = 0; c < 3; ++c) {
    planes.plane[c] = out + c * plane;
    planes.gain[c] = 1.0f / (255.0f * options.normalization.std[c]);
    planes.shift[c] = -options.normalization.mean[c] / options.normalization.std[c];
  }
  // Zeros behind the row are what taps beyond the source, and the fourth lane, read.
  std::vector<float> row(std::size_t{3} * (image.width + across.num) + kLanes, 0.0f);
  for (int y = 0; y < g.content_h; ++y) {
    const std::size_t num = std::min(down.num, image.height - down.start[y]);
    mix_rows(image, down.start[y], {&down.weight[static_cast<std::size_t>(y) * down.num], num},
             row.data());
    mix_columns(row.data(), across, planes, static_cast<std::size_t>(y) * network.width);
  }
}

void clear_padding(const Geometry& g, Size network, float* plane) {
  for (int y = 0; y < g.content_h; ++y)
    std::fill(plane + static_cast<std::size_t>(y) * network.width + g.content_w,
              plane + static_cast<std::size_t>(y + 1) * network.width, 0.0f);
  std::fill(plane + static_cast<std::size_t>(g.content_h) * network.width,
            plane + static_cast<std::size_t>(network.height) * network.width, 0.0f);
}

void require_content(const Geometry& g, Size network, std::size_t num_out, std::size_t planes) {
  REQUIRE(num_out == planes * network.width * network.height, "{} values for {} x {} x {}", num_out,
          planes, network.height, network.width);
  REQUIRE(g.content_w > 0 && g.content_w <= network.width && g.content_h > 0 &&
              g.content_h <= network.height,
          "content of {} x {} in {} x {}", g.content_w, g.content_h, network.width, network.height);
}

// Source positions of the content's pixels: floor((i + 0.5) source / scaled), flipped, cropped.
std::vector<int> nearest_positions(const Axis& axis) {
  std::vector<int> positions(axis.content);
  for (int i = 0; i < axis.content; ++i) {
    const std::int64_t twice = 2 * std::int64_t{axis.position(i)} + 1;
    const std::int64_t at = twice * axis.source / (2 * std::int64_t{axis.scaled});
    positions[i] = static_cast<int>(std::min<std::int64_t>(at, axis.source - 1));
  }
  return positions;
}

template <typename In, typename Out>
void letterbox_nearest(std::span<const In> source, const Geometry& g, Size network, Out fill,
                       std::span<Out> out) {
  require_content(g, network, out.size(), 1);
  REQUIRE(source.size() == static_cast<std::size_t>(g.original_w) * g.original_h,
          "{} pixels for {} x {}", source.size(), g.original_w, g.original_h);
  const std::vector<int> columns = nearest_positions(axis_of(g, true, g.original_w, 1));
  const std::vector<int> rows = nearest_positions(axis_of(g, false, g.original_h, 1));
  std::fill(out.begin(), out.end(), fill);
  for (int y = 0; y < g.content_h; ++y) {
    const In* from = source.data() + static_cast<std::size_t>(rows[y]) * g.original_w;
    Out* to = out.data() + static_cast<std::size_t>(y) * network.width;
    for (int x = 0; x < g.content_w; ++x) to[x] = from[columns[x]];
  }
}

}  // namespace

void letterbox(const Image& image, const Geometry& g, Size network, const LetterboxOptions& options,
               std::span<float> out) {
  require_content(g, network, out.size(), 3);
  const int shrink = options.shrink;
  REQUIRE(shrink >= 1 && image.width == (g.original_w + shrink - 1) / shrink &&
              image.height == (g.original_h + shrink - 1) / shrink,
          "an image of {} x {} for a geometry of {} x {}, shrink {}", image.width, image.height,
          g.original_w, g.original_h, shrink);
  for (const float deviation : options.normalization.std) REQUIRE(deviation > 0, "data.std");
  const bool same = shrink == 1 && scaled_size(g) == Size{image.width, image.height};
  if (same)
    copy_content(image, g, network, options.normalization, out.data());
  else
    resize_content(image, g, network, options, out.data());
  const std::size_t plane = static_cast<std::size_t>(network.width) * network.height;
  for (int c = 0; c < 3; ++c) clear_padding(g, network, out.data() + c * plane);
}

void letterbox_labels(const LabelImage& labels, const Geometry& g, Size network, std::int32_t fill,
                      std::span<std::int32_t> out) {
  letterbox_nearest<std::uint16_t, std::int32_t>(labels.pixels, g, network, fill, out);
}

void letterbox_mask(std::span<const std::uint8_t> mask, const Geometry& g, Size network,
                    std::span<std::uint8_t> out) {
  letterbox_nearest<std::uint8_t, std::uint8_t>(mask, g, network, 0, out);
}

Size needed_size(const Geometry& g, bool antialias) {
  const Size scaled = scaled_size(g);
  if (!antialias) return {g.original_w, g.original_h};
  return {std::min(scaled.width, g.original_w), std::min(scaled.height, g.original_h)};
}

}  // namespace trainer
