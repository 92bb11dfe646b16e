#include "trainer/data/resize_taps.h"

#include <algorithm>
#include <cmath>

namespace trainer {

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

Taps copying_taps(const Axis& axis) {
  Taps taps{1, std::vector<int>(axis.content), std::vector<float>(axis.content, 1.0f)};
  for (int i = 0; i < axis.content; ++i) taps.start[i] = axis.position(i);
  return taps;
}

}  // namespace trainer
