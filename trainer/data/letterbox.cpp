#include "trainer/data/letterbox.h"

#include <algorithm>
#include <vector>

#include "comm/error.h"
#include "trainer/data/resize_taps.h"

namespace trainer {
namespace {

constexpr int kLanes = 4;  // r, g, b and one that is thrown away: a whole vector register

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
    planes.gain[c] = normalizing_gain(options.normalization, c);
    planes.shift[c] = normalizing_shift(options.normalization, c);
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

void require_content(const Geometry& g, Size network) {
  REQUIRE(g.content_w > 0 && g.content_w <= network.width && g.content_h > 0 &&
              g.content_h <= network.height,
          "content of {} x {} in {} x {}", g.content_w, g.content_h, network.width, network.height);
}

void require_room(Size network, std::size_t num_out, std::size_t planes) {
  REQUIRE(num_out == planes * network.width * network.height, "{} values for {} x {} x {}", num_out,
          planes, network.height, network.width);
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
  require_room(network, out.size(), 1);
  require_content(g, network);
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

void require_letterbox(const Image& image, const Geometry& g, Size network,
                       const LetterboxOptions& options) {
  require_content(g, network);
  const int shrink = options.shrink;
  REQUIRE(shrink >= 1 && image.width == (g.original_w + shrink - 1) / shrink &&
              image.height == (g.original_h + shrink - 1) / shrink,
          "an image of {} x {} for a geometry of {} x {}, shrink {}", image.width, image.height,
          g.original_w, g.original_h, shrink);
  for (const float deviation : options.normalization.std) REQUIRE(deviation > 0, "data.std");
}

bool copies_pixels(const Image& image, const Geometry& g, const LetterboxOptions& options) {
  return options.shrink == 1 && scaled_size(g) == Size{image.width, image.height};
}

float normalizing_gain(const Normalization& normalization, int channel) {
  return 1.0f / (255.0f * normalization.std[channel]);
}

float normalizing_shift(const Normalization& normalization, int channel) {
  return -normalization.mean[channel] / normalization.std[channel];
}

void letterbox(const Image& image, const Geometry& g, Size network, const LetterboxOptions& options,
               std::span<float> out) {
  require_room(network, out.size(), 3);
  require_letterbox(image, g, network, options);
  if (copies_pixels(image, g, options))
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
