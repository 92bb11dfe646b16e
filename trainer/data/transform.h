#pragma once

#include <array>
#include <cstdint>

#include "trainer/data/image.h"

namespace trainer {

struct Size {
  int width = 0;
  int height = 0;
  bool operator==(const Size&) const = default;
};

// x1, y1, x2, y2 in pixels; pixel i covers [i, i + 1).
using Corners = std::array<double, 4>;

// Where an image lies in the network's input. In x (and likewise in y, with vflip)
//   x' = x scale_x + offset_x,  then  x' = content_w - x'  if flip.
// The content is the rectangle [0, content_w) x [0, content_h) of the input; the rest is padding.
// Invariant: scale_x original_w and offset_x are whole numbers.
struct Geometry {
  double scale_x = 1, scale_y = 1;
  double offset_x = 0, offset_y = 0;  // <= 0: what a crop removes at the left and the top
  bool flip = false, vflip = false;
  int content_w = 0, content_h = 0;
  int original_w = 0, original_h = 0;
};

// The whole image, scaled by min(W / w, H / h) and rounded to whole pixels, at the top left.
Geometry fit_geometry(Size original, Size network);

// A window of the network's size on the image scaled to cover it, times `scale`. `x` and `y` in
// [0, 1] choose the window among the possible ones; 0.5 is the centre. With scale < 1 the image may
// be smaller than the input; it then lies at the top left.
struct CropWindow {
  double scale = 1;
  double x = 0.5, y = 0.5;
};
Geometry crop_geometry(Size original, Size network, const CropWindow& window = {});

// Resize `none`. Errors: 65 if the sizes differ.
Geometry same_geometry(Size original, Size network);

// The size the original is scaled to before any crop.
Size scaled_size(const Geometry& geometry);

// Original -> network. Clipped to the content; a box outside of it has no area afterwards.
Corners to_network(const Geometry& geometry, const Corners& box);
// The part of `box` that is inside the content, as a share of its area in [0, 1].
double visible_share(const Geometry& geometry, const Corners& box);
// Network -> original, clipped to the original.
Corners to_original(const Geometry& geometry, const Corners& box);

Image flip_horizontal(const Image& image);
Image flip_vertical(const Image& image);
LabelImage flip_horizontal(const LabelImage& labels);
LabelImage flip_vertical(const LabelImage& labels);

}  // namespace trainer
