#include "trainer/data/augment.h"

#include <algorithm>
#include <cmath>

#include "comm/random.h"

namespace trainer {
namespace {

using comm::Purpose;

class Uniforms {
 public:
  Uniforms(std::uint64_t seed, const Draw& draw) : seed_(seed), draw_(draw) {}

  // Four numbers in [0, 1) for one purpose.
  std::array<double, 4> operator()(Purpose purpose, std::uint32_t index = 0) const {
    const comm::Random4 random =
        comm::philox(seed_, purpose, static_cast<std::uint64_t>(draw_.sample), draw_.epoch, index);
    std::array<double, 4> result;
    for (std::size_t i = 0; i < 4; ++i) result[i] = static_cast<double>(comm::uniform(random.v[i]));
    return result;
  }

 private:
  std::uint64_t seed_;
  Draw draw_;
};

Jitter draw_jitter(const DataConfig& config, const Uniforms& uniforms) {
  const double s = config.photometric;
  const auto u = uniforms(Purpose::kPhotometric, 0);
  const auto factor = [&](double x) { return static_cast<float>(1 + s * (2 * x - 1)); };
  Jitter jitter;
  jitter.brightness = factor(u[0]);
  jitter.contrast = factor(u[1]);
  jitter.saturation = factor(u[2]);
  jitter.hue = static_cast<float>(s / 10 * (2 * u[3] - 1));
  jitter.order =
      jitter_order(static_cast<std::uint32_t>(24 * uniforms(Purpose::kPhotometric, 1)[0]));
  return jitter;
}

// Scaling that fits the image into the network's input, and that covers it.
double fit_scale(Size original, Size network) {
  return std::min(static_cast<double>(network.width) / original.width,
                  static_cast<double>(network.height) / original.height);
}
double cover_scale(Size original, Size network) {
  return std::max(static_cast<double>(network.width) / original.width,
                  static_cast<double>(network.height) / original.height);
}

// Scaling of data.resize crop without augmentation.
double crop_scale(const DataConfig& config, Size original) {
  return config.short_side == 0
             ? 1.0
             : static_cast<double>(config.short_side) / std::min(original.width, original.height);
}

// Moves |shift| of the content out of the input, at the left or at the right.
void shift_axis(double shift, double& offset, int& content) {
  const int pixels = std::min(static_cast<int>(std::round(std::abs(shift) * content)), content - 1);
  if (shift < 0) offset -= pixels;
  content -= pixels;
}

}  // namespace

Augmentation draw_augmentation(const DataConfig& config, std::uint64_t seed, const Draw& draw) {
  const Uniforms uniforms(seed, draw);
  Augmentation a;
  a.flip = uniforms(Purpose::kFlip)[0] < config.flip;
  a.vflip = uniforms(Purpose::kVerticalFlip)[0] < config.vflip;
  const double low = std::log(config.scale.at(0)), high = std::log(config.scale.at(1));
  if (config.scale[0] == config.scale[1])
    a.scale = config.scale[0];
  else
    a.scale = std::exp(low + (high - low) * uniforms(Purpose::kScale)[0]);
  const auto crop = uniforms(Purpose::kCrop);
  a.crop_x = crop[0];
  a.crop_y = crop[1];
  a.shift_x = config.shift * (2 * crop[2] - 1);
  a.shift_y = config.shift * (2 * crop[3] - 1);
  if (config.photometric > 0) a.jitter = draw_jitter(config, uniforms);
  return a;
}

Geometry augmented_geometry(const DataConfig& config, const Augmentation& a, Size original,
                            Size network) {
  const auto cropped = [&](double scale) {
    return crop_geometry(
        original, network,
        {.scale = scale / cover_scale(original, network), .x = a.crop_x, .y = a.crop_y});
  };
  Geometry geometry;
  switch (config.resize) {
    case Resize::kFit:
      geometry = a.scale == 1 ? fit_geometry(original, network)
                              : cropped(a.scale * fit_scale(original, network));
      break;
    case Resize::kCrop:
      geometry = cropped(a.scale * crop_scale(config, original));
      break;
    case Resize::kNone:
      geometry = same_geometry(original, network);
      break;
  }
  shift_axis(a.shift_x, geometry.offset_x, geometry.content_w);
  shift_axis(a.shift_y, geometry.offset_y, geometry.content_h);
  geometry.flip = a.flip;
  geometry.vflip = a.vflip;
  return geometry;
}

Geometry evaluation_geometry(const DataConfig& config, bool classifier, Size original,
                             Size network) {
  if (config.resize == Resize::kNone) return same_geometry(original, network);
  if (config.resize == Resize::kFit || !classifier) return fit_geometry(original, network);
  return crop_geometry(original, network,
                       {.scale = crop_scale(config, original) / cover_scale(original, network)});
}

}  // namespace trainer
