#pragma once

#include <span>
#include <string>
#include <string_view>

namespace trainer {

struct Point {
  double x, y;
};

struct SvgLine {
  std::string color = "#333333";
  double width = 1;
  std::string dash;  // "6 3"; empty: solid
  double opacity = 1;
};

enum class Anchor { kStart, kMiddle, kEnd };

struct SvgText {
  double size = 12;
  Anchor anchor = Anchor::kStart;
  std::string color = "#333333";
  bool bold = false;
  double rotation = 0;  // degrees clockwise about the anchor
};

// An SVG document under construction, on a white ground. No scripts, styles or links; texts are
// escaped. Coordinates in pixels, y downwards.
class Svg {
 public:
  Svg(double width, double height);

  void rect(Point corner, double width, double height, const std::string& fill);
  void line(Point from, Point to, const SvgLine& style);
  void polyline(std::span<const Point> points, const SvgLine& style);
  void circle(Point center, double radius, const std::string& fill);
  // `at` is on the base line.
  void text(Point at, std::string_view utf8, const SvgText& style);

  std::string document() const;

 private:
  std::string body_;
};

// "&<>\"'" as entities, control characters as \xNN: valid XML for any bytes.
std::string escape_xml(std::string_view text);
// Width in pixels, an upper estimate for common sans-serif fonts.
double svg_text_width(std::string_view utf8, double size);
// Cut to `width` pixels, with an ellipsis where something is missing.
std::string fit_svg_text(std::string_view utf8, double width, double size);

}  // namespace trainer
