#include "trainer/data/packed_image.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "comm/error.h"
#include "trainer/data/resize_taps.h"

namespace trainer {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kCapacityTaps = 4;  // of a filter of factor 2
static_assert(std::is_trivially_copyable_v<PackedImage> && sizeof(PackedImage) % 4 == 0);

constexpr std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::size_t finished_bytes(const PackTarget& target) {
  return static_cast<std::size_t>(target.channels) * target.network.width * target.network.height *
         sizeof(float);
}

// The part of a source axis that some tap reads.
struct Extent {
  int begin = 0, end = 0;
  int size() const { return end - begin; }
};

Extent extent_of(const Taps& taps, int source) {
  const auto [first, last] = std::ranges::minmax(taps.start);
  return {first, std::min(source, last + taps.num)};
}

std::size_t taps_bytes(const Taps& taps) {
  return taps.start.size() * sizeof(std::int32_t) + taps.weight.size() * sizeof(float);
}

// Appends the taps; the source begins at `extent`.
PackedImage::Filter put_taps(const Taps& taps, Extent extent, std::byte* base, std::size_t& at) {
  PackedImage::Filter filter{taps.num, extent.size(), static_cast<std::int32_t>(at), 0};
  auto* start = reinterpret_cast<std::int32_t*>(base + at);
  for (std::size_t i = 0; i < taps.start.size(); ++i) start[i] = taps.start[i] - extent.begin;
  at += taps.start.size() * sizeof(std::int32_t);
  filter.weight_at = static_cast<std::int32_t>(at);
  std::memcpy(base + at, taps.weight.data(), taps.weight.size() * sizeof(float));
  at += taps.weight.size() * sizeof(float);
  return filter;
}

void put_pixels(const Image& image, Extent columns, Extent rows, int channels, std::byte* to) {
  for (int y = rows.begin; y < rows.end; ++y) {
    const std::uint8_t* from =
        image.rgb.data() + 3 * (static_cast<std::size_t>(y) * image.width + columns.begin);
    const auto width = static_cast<std::size_t>(columns.size());
    if (channels == 3) {
      std::memcpy(to, from, 3 * width);
    } else {
      for (std::size_t x = 0; x < width; ++x) to[x] = static_cast<std::byte>(from[3 * x]);
    }
    to += static_cast<std::size_t>(channels) * width;
  }
}

void put_finished(const Image& image, const Geometry& geometry, const LetterboxOptions& options,
                  const PackTarget& target, std::byte* to) {
  auto* values = reinterpret_cast<float*>(to);
  const std::size_t count = finished_bytes(target) / sizeof(float);
  if (target.channels == 3)
    return letterbox(image, geometry, target.network, options, {values, count});
  std::vector<float> planes(3 * count);
  letterbox(image, geometry, target.network, options, planes);
  std::copy_n(planes.begin(), count, values);
}

struct ImageFilters {
  Taps across, down;
};

ImageFilters filters_of(const Image& image, const Geometry& g, const LetterboxOptions& options,
                        bool scales) {
  const Axis columns = axis_of(g, true, image.width, options.shrink);
  const Axis rows = axis_of(g, false, image.height, options.shrink);
  if (!scales) return {copying_taps(columns), copying_taps(rows)};
  if (options.antialias) return {triangle_taps(columns), triangle_taps(rows)};
  return {bilinear_taps(columns), bilinear_taps(rows)};
}

}  // namespace

std::size_t packed_capacity(Size network, int channels) {
  const auto width = static_cast<std::size_t>(network.width);
  const auto height = static_cast<std::size_t>(network.height);
  const std::size_t taps =
      (width + height) * (sizeof(std::int32_t) + kCapacityTaps * sizeof(float));
  return aligned(aligned(sizeof(PackedImage)) + taps +
                 static_cast<std::size_t>(channels) * width * height * sizeof(float));
}

void pack_image(const Image& image, const Geometry& g, const LetterboxOptions& options,
                const PackTarget& target) {
  require_letterbox(image, g, target.network, options);
  PackedImage head{};
  head.content_w = g.content_w;
  head.content_h = g.content_h;
  head.scales = !copies_pixels(image, g, options);
  for (int c = 0; c < 3; ++c) {
    head.mean[c] = options.normalization.mean[c];
    head.std[c] = options.normalization.std[c];
    head.gain[c] = normalizing_gain(options.normalization, c);
    head.shift[c] = normalizing_shift(options.normalization, c);
  }
  const ImageFilters filters = filters_of(image, g, options, head.scales != 0);
  const Extent columns = extent_of(filters.across, image.width);
  const Extent rows = extent_of(filters.down, image.height);
  const std::size_t pixels_bytes =
      static_cast<std::size_t>(target.channels) * columns.size() * rows.size();
  std::size_t at = aligned(sizeof(PackedImage));
  std::byte* const base = target.out.data();
  if (at + taps_bytes(filters.across) + taps_bytes(filters.down) + pixels_bytes <=
      target.out.size()) {
    head.kind = PackedImage::Kind::kPixels;
    head.across = put_taps(filters.across, columns, base, at);
    head.down = put_taps(filters.down, rows, base, at);
    put_pixels(image, columns, rows, target.channels, base + at);
    head.used_bytes = static_cast<std::int32_t>(at + pixels_bytes);
  } else {
    REQUIRE(at + finished_bytes(target) <= target.out.size(), "{} bytes for {} x {}",
            target.out.size(), target.network.height, target.network.width);
    head.kind = PackedImage::Kind::kFinished;
    put_finished(image, g, options, target, base + at);
    head.used_bytes = static_cast<std::int32_t>(at + finished_bytes(target));
  }
  head.pixels_at = static_cast<std::int32_t>(at);
  std::memcpy(base, &head, sizeof(head));
}

void pack_nothing(std::span<std::byte> out) {
  PackedImage head{};
  head.kind = PackedImage::Kind::kNone;
  head.used_bytes = sizeof(head);
  std::memcpy(out.data(), &head, sizeof(head));
}

std::span<const std::byte> used_part(std::span<const std::byte> packed) {
  PackedImage head;
  std::memcpy(&head, packed.data(), sizeof(head));
  return packed.first(static_cast<std::size_t>(head.used_bytes));
}

}  // namespace trainer
