#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "trainer/data/image.h"
#include "trainer/data/transform.h"

namespace trainer {

struct Normalization {
  std::array<float, 3> mean = {0.485f, 0.456f, 0.406f};  // ImageNet, of x / 255
  std::array<float, 3> std = {0.229f, 0.224f, 0.225f};
};

struct LetterboxOptions {
  Normalization normalization = {};
  bool antialias = true;
  // What read_shrunk_image returned: each pixel of `image` stands for shrink^2 of the original's.
  int shrink = 1;
};

// Scales, crops, flips, normalises and pads in one pass:
//   out[c, y, x] = (v / 255 - mean[c]) / std[c] inside the content, 0 outside.
// `out` is (3, H, W) of size network. v is the bilinear interpolation at half-pixel centres in
// float, never rounded to 8 bit. antialias: when an axis shrinks, its triangle filter is widened by
// the factor and its weights sum to 1, as torch.nn.functional.interpolate(mode="bilinear",
// align_corners=False, antialias=True) and PIL do; else two taps an axis, as with antialias=False.
// REQUIRES: image is geometry.original / shrink, rounded up; out.size() == 3 H W; std > 0.
void letterbox(const Image& image, const Geometry& geometry, Size network,
               const LetterboxOptions& options, std::span<float> out);

// The nearest label, at half-pixel centres: original x = floor((x' + 0.5 - offset_x) / scale_x).
// Outside the content: fill. `out` is (H, W) of size network.
void letterbox_labels(const LabelImage& labels, const Geometry& geometry, Size network,
                      std::int32_t fill, std::span<std::int32_t> out);

// The same for a mask (H, W) of bytes of the original's size; outside the content: 0.
void letterbox_mask(std::span<const std::uint8_t> mask, const Geometry& geometry, Size network,
                    std::span<std::uint8_t> out);

// What letterbox() requires of its arguments.
void require_letterbox(const Image& image, const Geometry& geometry, Size network,
                       const LetterboxOptions& options);
// No pixel is scaled: out = (v / 255 - mean) / std in the order of operations of torchvision, to
// the same bits. Else: out = gain v + shift.
bool copies_pixels(const Image& image, const Geometry& geometry, const LetterboxOptions& options);
float normalizing_gain(const Normalization& normalization, int channel);
float normalizing_shift(const Normalization& normalization, int channel);

// The smallest decode that loses nothing visible: arguments for read_shrunk_image. The scaled size
// when the image shrinks and antialias is set, else the full size.
Size needed_size(const Geometry& geometry, bool antialias);

}  // namespace trainer
