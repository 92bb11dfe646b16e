#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trainer {

// Run-length coded binary mask, column-major, as the COCO API defines it: run lengths alternate
// between 0 and 1, the first run counts zeros (and may be 0).
// Invariant: the runs of a valid mask sum to height * width; only the first may be empty.
struct Rle {
  std::int64_t height = 0;            // pixels
  std::int64_t width = 0;             // pixels
  std::vector<std::uint32_t> counts;  // pixels a run

  bool operator==(const Rle&) const = default;
};

// Errors: every function throws std::invalid_argument with the reason when its input is no mask
// (sizes that differ, runs that don't sum to height * width, a broken string, a polygon with less
// than 3 points or non-finite coordinates).

// `pixels` is row-major (height, width); nonzero is foreground.
Rle rle_encode(std::span<const std::uint8_t> pixels, std::int64_t height, std::int64_t width);
std::vector<std::uint8_t> rle_decode(const Rle& mask);  // (height, width), 0 or 1

// Uncompressed COCO counts to a valid mask: checks the sum, merges across empty runs.
Rle rle_from_counts(std::span<const std::int64_t> counts, std::int64_t height, std::int64_t width);

// The COCO API's text form of the counts: 5 bits a character, differences to the run before last.
std::string rle_to_string(const Rle& mask);
Rle rle_from_string(std::string_view text, std::int64_t height, std::int64_t width);

// Polygon (x0, y0, x1, y1, ...) in pixels, pixel (0, 0) covering [0, 1) x [0, 1), to the mask the
// COCO API draws: the boundary is walked on a 5 times finer grid, and a pixel column changes value
// where the walk crosses the column's centre (cocoapi, maskApi.c, rleFrPoly).
Rle rle_from_polygon(std::span<const double> xy, std::int64_t height, std::int64_t width);
// A box (x, y, width, height) as the polygon of its corners.
Rle rle_from_box(const std::array<double, 4>& box, std::int64_t height, std::int64_t width);

Rle rle_union(std::span<const Rle> masks);
Rle rle_intersection(std::span<const Rle> masks);

std::int64_t rle_area(const Rle& mask);  // pixels
std::int64_t rle_intersection_area(const Rle& a, const Rle& b);
std::array<double, 4> rle_box(const Rle& mask);  // (x, y, width, height); zeros if empty

// |a and b| / |a or b|, or with `b_is_crowd` |a and b| / |a|; 0 when they don't meet.
double rle_iou(const Rle& a, const Rle& b, bool b_is_crowd);

}  // namespace trainer
