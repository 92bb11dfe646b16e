#include "trainer/report/svg.h"

#include <fmt/format.h>

#include <iterator>

#include "trainer/report/run_log.h"
#include "trainer/report/text_table.h"

namespace trainer {

namespace {

constexpr const char* kFonts = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

// Mean advance of DejaVu Sans, the widest of kFonts, over mixed text.
constexpr double kAdvance = 0.6;

const char* anchor_name(Anchor anchor) {
  switch (anchor) {
    case Anchor::kStart:
      return "start";
    case Anchor::kMiddle:
      return "middle";
    case Anchor::kEnd:
      return "end";
  }
  return "start";
}

std::string stroke(const SvgLine& style) {
  std::string text = fmt::format(R"(stroke="{}" stroke-width="{:.4g}")", style.color, style.width);
  if (!style.dash.empty()) text += fmt::format(R"( stroke-dasharray="{}")", style.dash);
  if (style.opacity < 1) text += fmt::format(R"( stroke-opacity="{:.3g}")", style.opacity);
  return text;
}

}  // namespace

std::string escape_xml(std::string_view text) {
  std::string escaped;
  for (const char c : escape_control(text)) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

double svg_text_width(std::string_view utf8, double size) {
  return kAdvance * size * display_width(utf8);
}

std::string fit_svg_text(std::string_view utf8, double width, double size) {
  if (svg_text_width(utf8, size) <= width) return std::string(utf8);
  constexpr std::string_view kEllipsis = "\u2026";
  std::size_t end = 0;
  for (std::size_t i = 0; i <= utf8.size(); ++i) {
    const bool at_border = i == utf8.size() || (static_cast<unsigned char>(utf8[i]) & 0xc0) != 0x80;
    if (!at_border) continue;
    if (svg_text_width(utf8.substr(0, i), size) + kAdvance * size > width) break;
    end = i;
  }
  return std::string(utf8.substr(0, end)).append(kEllipsis);
}

Svg::Svg(double width, double height)
    : body_(fmt::format(
          R"(<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="{0:.0f}" height="{1:.0f}" )"
          R"(viewBox="0 0 {0:.0f} {1:.0f}" font-family="{2}">
<rect width="100%" height="100%" fill="#ffffff"/>
)",
          width, height, kFonts)) {}

void Svg::rect(Point corner, double width, double height, const std::string& fill) {
  fmt::format_to(std::back_inserter(body_),
                 R"(<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" fill="{}"/>)"
                 "\n",
                 corner.x, corner.y, width, height, fill);
}

void Svg::line(Point from, Point to, const SvgLine& style) {
  fmt::format_to(std::back_inserter(body_),
                 R"(<line x1="{:.2f}" y1="{:.2f}" x2="{:.2f}" y2="{:.2f}" {}/>)"
                 "\n",
                 from.x, from.y, to.x, to.y, stroke(style));
}

void Svg::polyline(std::span<const Point> points, const SvgLine& style) {
  body_ += R"(<polyline fill="none" stroke-linejoin="round" stroke-linecap="round" )";
  body_ += stroke(style) + " points=\"";
  for (const Point& point : points)
    fmt::format_to(std::back_inserter(body_), "{:.2f},{:.2f} ", point.x, point.y);
  body_ += "\"/>\n";
}

void Svg::circle(Point center, double radius, const std::string& fill) {
  fmt::format_to(std::back_inserter(body_),
                 R"(<circle cx="{:.2f}" cy="{:.2f}" r="{:.4g}" fill="{}"/>)"
                 "\n",
                 center.x, center.y, radius, fill);
}

void Svg::text(Point at, std::string_view utf8, const SvgText& style) {
  fmt::format_to(std::back_inserter(body_),
                 R"(<text x="{:.2f}" y="{:.2f}" font-size="{:.4g}" text-anchor="{}" fill="{}")",
                 at.x, at.y, style.size, anchor_name(style.anchor), style.color);
  if (style.bold) body_ += R"( font-weight="bold")";
  if (style.rotation != 0)
    fmt::format_to(std::back_inserter(body_), R"x( transform="rotate({:.4g} {:.2f} {:.2f})")x",
                   style.rotation, at.x, at.y);
  body_ += '>' + escape_xml(utf8) + "</text>\n";
}

std::string Svg::document() const { return body_ + "</svg>\n"; }

}  // namespace trainer
