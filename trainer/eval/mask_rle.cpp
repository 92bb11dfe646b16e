#include "trainer/eval/mask_rle.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace trainer {
namespace {

constexpr std::int64_t kMaxMaskPixels = std::numeric_limits<std::int32_t>::max();

void check_size(std::int64_t height, std::int64_t width) {
  if (height < 0 || width < 0 || (height > 0 && width > kMaxMaskPixels / height)) {
    throw std::invalid_argument("mask of impossible size " + std::to_string(height) + " x " +
                                std::to_string(width));
  }
}

void check_same_size(const Rle& a, const Rle& b) {
  if (a.height != b.height || a.width != b.width) {
    throw std::invalid_argument("masks of different size: " + std::to_string(a.height) + " x " +
                                std::to_string(a.width) + " and " + std::to_string(b.height) +
                                " x " + std::to_string(b.width));
  }
}

// Appends runs, joining neighbours of one value.
class RunWriter {
 public:
  RunWriter(std::int64_t height, std::int64_t width) : mask_{height, width, {0}} {}

  void append(bool value, std::int64_t length) {
    if (length == 0) return;
    if (value != value_) {
      mask_.counts.push_back(0);
      value_ = value;
    }
    mask_.counts.back() += static_cast<std::uint32_t>(length);
  }

  Rle take() { return std::move(mask_); }

 private:
  Rle mask_;
  bool value_ = false;
};

class RunCursor {
 public:
  explicit RunCursor(const Rle& mask) : counts_(mask.counts) { next(); }

  bool done() const { return left_ == 0; }
  bool value() const { return index_ % 2 == 0; }
  std::uint32_t left() const { return left_; }
  // REQUIRES: length <= left().
  void skip(std::uint32_t length) {
    left_ -= length;
    if (left_ == 0) next();
  }

 private:
  // Afterwards index_ - 1 is the current run, so odd runs (foreground) show an even index_.
  void next() {
    while (left_ == 0 && index_ < counts_.size()) left_ = counts_[index_++];
  }

  std::span<const std::uint32_t> counts_;
  std::size_t index_ = 0;
  std::uint32_t left_ = 0;
};

// Calls visit(value of a, value of b, length) for the common refinement of both masks' runs.
template <typename Visit>
void walk(const Rle& a, const Rle& b, Visit visit) {
  check_same_size(a, b);
  RunCursor i(a), j(b);
  while (!i.done() && !j.done()) {
    const std::uint32_t length = std::min(i.left(), j.left());
    visit(i.value(), j.value(), length);
    i.skip(length);
    j.skip(length);
  }
}

template <typename Combine>
Rle fold(std::span<const Rle> masks, Combine combine) {
  if (masks.empty()) throw std::invalid_argument("no mask to combine");
  Rle result = masks[0];
  for (const Rle& mask : masks.subspan(1)) {
    RunWriter writer(mask.height, mask.width);
    walk(result, mask, [&](bool a, bool b, std::uint32_t n) { writer.append(combine(a, b), n); });
    result = writer.take();
  }
  return result;
}

}  // namespace

Rle rle_encode(std::span<const std::uint8_t> pixels, std::int64_t height, std::int64_t width) {
  check_size(height, width);
  if (static_cast<std::int64_t>(pixels.size()) != height * width) {
    throw std::invalid_argument("mask of " + std::to_string(pixels.size()) + " pixels, not " +
                                std::to_string(height) + " x " + std::to_string(width));
  }
  RunWriter writer(height, width);
  for (std::int64_t x = 0; x < width; ++x) {
    for (std::int64_t y = 0; y < height; ++y) writer.append(pixels[y * width + x] != 0, 1);
  }
  return writer.take();
}

std::vector<std::uint8_t> rle_decode(const Rle& mask) {
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(mask.height * mask.width));
  std::int64_t at = 0;
  for (std::size_t run = 0; run < mask.counts.size(); ++run) {
    const std::int64_t end = at + mask.counts[run];
    for (; at < end; ++at) {
      pixels[at % mask.height * mask.width + at / mask.height] = run % 2;
    }
  }
  return pixels;
}

Rle rle_from_counts(std::span<const std::int64_t> counts, std::int64_t height, std::int64_t width) {
  check_size(height, width);
  const std::int64_t num_pixels = height * width;
  RunWriter writer(height, width);
  std::int64_t sum = 0;
  for (std::size_t run = 0; run < counts.size(); ++run) {
    if (counts[run] < 0 || counts[run] > num_pixels - sum) {
      throw std::invalid_argument("RLE run " + std::to_string(run) + " is " +
                                  std::to_string(counts[run]) + " where " +
                                  std::to_string(num_pixels - sum) + " pixels are left");
    }
    sum += counts[run];
    writer.append(run % 2 != 0, counts[run]);
  }
  if (sum != num_pixels) {
    throw std::invalid_argument("RLE runs sum to " + std::to_string(sum) + ", not to " +
                                std::to_string(height) + " x " + std::to_string(width));
  }
  return writer.take();
}

Rle rle_union(std::span<const Rle> masks) {
  return fold(masks, [](bool a, bool b) { return a || b; });
}

Rle rle_intersection(std::span<const Rle> masks) {
  return fold(masks, [](bool a, bool b) { return a && b; });
}

std::int64_t rle_area(const Rle& mask) {
  std::int64_t area = 0;
  for (std::size_t run = 1; run < mask.counts.size(); run += 2) area += mask.counts[run];
  return area;
}

std::array<double, 4> rle_box(const Rle& mask) {
  std::int64_t x0 = mask.width, y0 = mask.height, x1 = -1, y1 = -1, at = 0;
  for (std::size_t run = 0; run < mask.counts.size(); ++run) {
    const std::int64_t first = at, last = at + mask.counts[run] - 1;
    at = last + 1;
    if (run % 2 == 0 || mask.counts[run] == 0) continue;
    const bool wraps = first / mask.height != last / mask.height;
    x0 = std::min(x0, first / mask.height);
    x1 = std::max(x1, last / mask.height);
    y0 = std::min(y0, wraps ? 0 : first % mask.height);
    y1 = std::max(y1, wraps ? mask.height - 1 : last % mask.height);
  }
  if (x1 < 0) return {0, 0, 0, 0};
  return {static_cast<double>(x0), static_cast<double>(y0), static_cast<double>(x1 - x0 + 1),
          static_cast<double>(y1 - y0 + 1)};
}

std::int64_t rle_intersection_area(const Rle& a, const Rle& b) {
  std::int64_t area = 0;
  walk(a, b, [&](bool in_a, bool in_b, std::uint32_t n) { area += in_a && in_b ? n : 0; });
  return area;
}

double rle_iou(const Rle& a, const Rle& b, bool b_is_crowd) {
  const std::int64_t both = rle_intersection_area(a, b);
  if (both == 0) return 0;
  const std::int64_t any = b_is_crowd ? rle_area(a) : rle_area(a) + rle_area(b) - both;
  return static_cast<double>(both) / static_cast<double>(any);
}

}  // namespace trainer
