#include "trainer/data/photometric.h"

#include <algorithm>
#include <cmath>

#include "comm/error.h"

namespace trainer {
namespace {

std::uint8_t truncate(float value) {
  return static_cast<std::uint8_t>(std::clamp(value, 0.0f, 255.0f));
}

// A call of its own, so that no fused multiply-add skips the rounding torchvision's products have.
[[gnu::noinline]] float product(float a, float b) { return a * b; }

struct ProductTable {
  explicit ProductTable(float factor) {
    for (int v = 0; v < 256; ++v) of[v] = product(factor, static_cast<float>(v));
  }
  std::array<float, 256> of;
};

// The luma of ITU-R 601, cut to a whole number as torchvision's rgb_to_grayscale does.
int gray(const std::uint8_t* p) {
  static const ProductTable r(0.2989f), g(0.587f), b(0.114f);
  return static_cast<int>(r.of[p[0]] + g.of[p[1]] + b.of[p[2]]);
}

// v -> factor v + other
void blend_all(Image& image, double factor, float other) {
  const ProductTable own(static_cast<float>(factor));
  std::array<std::uint8_t, 256> table;
  for (int v = 0; v < 256; ++v) table[v] = truncate(own.of[v] + other);
  for (std::uint8_t& v : image.rgb) v = table[v];
}

// Blends with the image's mean gray.
void scale_contrast(Image& image, double factor) {
  const std::size_t num_pixels = image.rgb.size() / 3;
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < num_pixels; ++i) sum += gray(&image.rgb[3 * i]);
  const double mean = static_cast<double>(sum) / static_cast<double>(num_pixels);
  blend_all(image, factor, product(static_cast<float>(1 - factor), static_cast<float>(mean)));
}

// Blends each pixel with its own gray.
void scale_saturation(Image& image, double factor) {
  const ProductTable own(static_cast<float>(factor));
  const ProductTable rest(static_cast<float>(1 - factor));
  for (std::size_t i = 0; i < image.rgb.size(); i += 3) {
    std::uint8_t* p = &image.rgb[i];
    const float luma = rest.of[gray(p)];
    for (int c = 0; c < 3; ++c) p[c] = truncate(own.of[p[c]] + luma);
  }
}

struct Hsv {
  float h, s, v;  // each in [0, 1]
};

// Smith, Color gamut transform pairs, SIGGRAPH 1978
Hsv to_hsv(float r, float g, float b) {
  const float high = std::max({r, g, b});
  const float low = std::min({r, g, b});
  if (high == low) return {0, 0, high};
  const float range = high - low;
  const float rc = (high - r) / range, gc = (high - g) / range, bc = (high - b) / range;
  float h = 4.0f + gc - rc;
  if (high == r)
    h = bc - gc;
  else if (high == g)
    h = 2.0f + rc - bc;
  return {std::fmod(h / 6.0f + 1.0f, 1.0f), range / high, high};
}

std::array<float, 3> to_rgb(const Hsv& hsv) {
  const float sector = std::floor(hsv.h * 6.0f);
  const float f = hsv.h * 6.0f - sector;
  const float p = std::clamp(hsv.v * (1.0f - hsv.s), 0.0f, 1.0f);
  const float q = std::clamp(hsv.v * (1.0f - hsv.s * f), 0.0f, 1.0f);
  const float t = std::clamp(hsv.v * (1.0f - hsv.s * (1.0f - f)), 0.0f, 1.0f);
  switch (static_cast<int>(sector) % 6) {
    case 0:
      return {hsv.v, t, p};
    case 1:
      return {q, hsv.v, p};
    case 2:
      return {p, hsv.v, t};
    case 3:
      return {p, q, hsv.v};
    case 4:
      return {t, p, hsv.v};
    default:
      return {hsv.v, p, q};
  }
}

void shift_hue(Image& image, double turns) {
  for (std::size_t i = 0; i < image.rgb.size(); i += 3) {
    std::uint8_t* p = &image.rgb[i];
    Hsv hsv = to_hsv(p[0] / 255.0f, p[1] / 255.0f, p[2] / 255.0f);
    hsv.h += static_cast<float>(turns);
    hsv.h -= std::floor(hsv.h);
    const std::array<float, 3> rgb = to_rgb(hsv);
    for (int c = 0; c < 3; ++c) p[c] = truncate(rgb[c] * 255.999f);
  }
}

}  // namespace

void apply_jitter(Image& image, const Jitter& jitter) {
  REQUIRE(jitter.brightness >= 0 && jitter.contrast >= 0 && jitter.saturation >= 0 &&
              std::abs(jitter.hue) <= 0.5,
          "jitter {} {} {} {}", jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue);
  for (const Jitter::Step step : jitter.order) {
    switch (step) {
      case Jitter::Step::kBrightness:
        if (jitter.brightness != 1) blend_all(image, jitter.brightness, 0.0f);
        break;
      case Jitter::Step::kContrast:
        if (jitter.contrast != 1) scale_contrast(image, jitter.contrast);
        break;
      case Jitter::Step::kSaturation:
        if (jitter.saturation != 1) scale_saturation(image, jitter.saturation);
        break;
      case Jitter::Step::kHue:
        if (jitter.hue != 0) shift_hue(image, jitter.hue);
        break;
    }
  }
}

std::array<Jitter::Step, 4> jitter_order(std::uint32_t k) {
  REQUIRE(k < 24, "order {}", k);
  std::array<Jitter::Step, 4> order = Jitter{}.order;
  for (std::uint32_t i = 0, left = 4; i < 3; ++i, --left) {
    std::rotate(order.begin() + i, order.begin() + i + k % left, order.begin() + i + k % left + 1);
    k /= left;
  }
  return order;
}

}  // namespace trainer
