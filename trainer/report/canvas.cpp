#include "trainer/report/canvas.h"

#include <algorithm>
#include <cstddef>

#include "comm/error.h"
#include "trainer/report/bitmap_font.h"
#include "trainer/report/text_table.h"

namespace trainer {

namespace {

constexpr int kAdvance = kGlyphColumns + 1;
constexpr int kLine = kGlyphRows + 1;

bool continues_code_point(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

std::size_t offset(const Image& image, int x, int y) {
  return 3 * (static_cast<std::size_t>(y) * static_cast<std::size_t>(image.width) +
              static_cast<std::size_t>(x));
}

}  // namespace

Canvas::Canvas(int width, int height, Rgb background) {
  REQUIRE(width > 0 && height > 0, "width {}, height {}", width, height);
  image_.width = width;
  image_.height = height;
  image_.rgb.resize(3 * static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
  fill({0, 0, width, height}, background);
}

void Canvas::set(int x, int y, Rgb color) {
  if (x < 0 || y < 0 || x >= width() || y >= height()) return;
  std::uint8_t* pixel = &image_.rgb[offset(image_, x, y)];
  pixel[0] = color.r;
  pixel[1] = color.g;
  pixel[2] = color.b;
}

Rgb Canvas::at(int x, int y) const {
  REQUIRE(x >= 0 && y >= 0 && x < width() && y < height(), "({}, {})", x, y);
  const std::uint8_t* pixel = &image_.rgb[offset(image_, x, y)];
  return {pixel[0], pixel[1], pixel[2]};
}

void Canvas::fill(PixelRect rect, Rgb color) {
  for (int y = std::max(rect.y0, 0); y < std::min(rect.y1, height()); ++y)
    for (int x = std::max(rect.x0, 0); x < std::min(rect.x1, width()); ++x) set(x, y, color);
}

void Canvas::outline(PixelRect rect, const Stroke& stroke) {
  const auto drawn = [&](int along) { return stroke.dash == 0 || along / stroke.dash % 2 == 0; };
  for (int inset = 0; inset < stroke.thickness; ++inset) {
    const int x0 = rect.x0 + inset, y0 = rect.y0 + inset;
    const int x1 = rect.x1 - 1 - inset, y1 = rect.y1 - 1 - inset;
    if (x0 > x1 || y0 > y1) return;
    for (int x = std::max(x0, 0); x <= std::min(x1, width() - 1); ++x) {
      if (!drawn(x - rect.x0)) continue;
      set(x, y0, stroke.color);
      set(x, y1, stroke.color);
    }
    for (int y = std::max(y0, 0); y <= std::min(y1, height() - 1); ++y) {
      if (!drawn(y - rect.y0)) continue;
      set(x0, y, stroke.color);
      set(x1, y, stroke.color);
    }
  }
}

void Canvas::paste(const Image& source, int x, int y) {
  const int first = std::max(0, -x);
  const int last = std::min(source.width, width() - x);
  if (first >= last) return;
  for (int row = std::max(0, -y); row < std::min(source.height, height() - y); ++row)
    std::copy_n(&source.rgb[offset(source, first, row)], 3 * (last - first),
                &image_.rgb[offset(image_, x + first, y + row)]);
}

void Canvas::text(int x, int y, std::string_view utf8, Rgb color, int scale) {
  REQUIRE(scale > 0, "scale {}", scale);
  for (const char character : utf8) {
    if (continues_code_point(character)) continue;
    for (int row = 0; row < kGlyphRows; ++row)
      for (int column = 0; column < kGlyphColumns; ++column) {
        if (!glyph_pixel(character, column, row)) continue;
        const int left = x + column * scale, top = y + row * scale;
        fill({left, top, left + scale, top + scale}, color);
      }
    x += kAdvance * scale;
  }
}

int text_width(std::string_view utf8, int scale) { return kAdvance * scale * display_width(utf8); }

int text_height(int scale) { return kLine * scale; }

std::string fit_text(std::string_view utf8, int width, int scale) {
  if (text_width(utf8, scale) <= width) return std::string(utf8);
  constexpr std::string_view kCut = "..";
  int num_kept = width / (kAdvance * scale) - static_cast<int>(kCut.size());
  if (num_kept < 0) return "";
  std::size_t end = 0;
  for (; end < utf8.size(); ++end)
    if (!continues_code_point(utf8[end]) && num_kept-- == 0) break;
  return std::string(utf8.substr(0, end)).append(kCut);
}

}  // namespace trainer
