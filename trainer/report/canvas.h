#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "trainer/data/image.h"

namespace trainer {

// Corners in pixels, x1 and y1 exclusive.
struct PixelRect {
  int x0, y0, x1, y1;
};

struct Stroke {
  Rgb color;
  int thickness = 1;
  int dash = 0;  // 0: solid; else length of a dash and of a gap
};

// Drawing on an RGB picture. Everything is clipped to the picture; no anti-aliasing.
class Canvas {
 public:
  explicit Canvas(Image image) : image_(std::move(image)) {}
  Canvas(int width, int height, Rgb background);

  int width() const { return image_.width; }
  int height() const { return image_.height; }
  const Image& image() const { return image_; }
  Image take() && { return std::move(image_); }

  void set(int x, int y, Rgb color);
  Rgb at(int x, int y) const;  // REQUIRES: inside
  void fill(PixelRect rect, Rgb color);
  void outline(PixelRect rect, const Stroke& stroke);  // inside the rectangle
  void paste(const Image& source, int x, int y);
  // Own 5x9 bitmap font, ASCII; another code point is a hollow box. (x, y): top left.
  void text(int x, int y, std::string_view utf8, Rgb color, int scale);

 private:
  Image image_;
};

// Pixels that Canvas::text covers: 6 a character and 10 a line, times scale.
int text_width(std::string_view utf8, int scale);
int text_height(int scale);
// `utf8` cut to `width` pixels, with ".." at its end where something is missing.
std::string fit_text(std::string_view utf8, int width, int scale);

}  // namespace trainer
