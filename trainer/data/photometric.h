#pragma once

#include <array>
#include <cstdint>

#include "trainer/data/image.h"

namespace trainer {

// torchvision's ColorJitter with its random draws made explicit; equal to its uint8
// tensor path (a hue shift: up to one step of 255 in one value of a million).
// A factor of 1 (hue: a shift of 0) leaves the image as it is.
struct Jitter {
  enum class Step : std::uint8_t { kBrightness, kContrast, kSaturation, kHue };
  double brightness = 1;  // >= 0: x f
  double contrast = 1;    // >= 0: blend with the mean gray
  double saturation = 1;  // >= 0: blend with the pixel's gray
  double hue = 0;         // [-0.5, 0.5] turns of the colour circle
  std::array<Step, 4> order = {Step::kBrightness, Step::kContrast, Step::kSaturation, Step::kHue};
};

void apply_jitter(Image& image, const Jitter& jitter);

// The k-th of the 24 orders of the steps, k in [0, 24).
std::array<Jitter::Step, 4> jitter_order(std::uint32_t k);

}  // namespace trainer
