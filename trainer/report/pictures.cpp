#include "trainer/report/pictures.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "comm/error.h"

namespace trainer {

namespace {

constexpr std::size_t kLegendEntries = 12;

constexpr Rgb kWhite = {255, 255, 255};
constexpr Rgb kBlack = {0, 0, 0};
constexpr Rgb kGray = {160, 160, 160};

// Okabe and Ito's palette, the colours furthest apart first.
constexpr std::array<Rgb, 7> kFirstColors = {{{213, 94, 0},
                                              {86, 180, 233},
                                              {240, 228, 66},
                                              {0, 158, 115},
                                              {204, 121, 167},
                                              {230, 159, 0},
                                              {0, 114, 178}}};

std::uint8_t to_byte(double value) {
  return static_cast<std::uint8_t>(std::lround(std::clamp(value, 0.0, 1.0) * 255));
}

// HSV to RGB, hue in turns.
Rgb hsv(double hue, double saturation, double value) {
  const auto channel = [&](double shift) {
    const double k = std::fmod(shift + 6 * hue, 6);
    return to_byte(value - value * saturation * std::clamp(std::min(k, 4 - k), 0.0, 1.0));
  };
  return {channel(5), channel(3), channel(1)};
}

// Black or white, whichever is read better on `ground` (luma of ITU-R BT.601).
Rgb ink_on(Rgb ground) {
  return 0.299 * ground.r + 0.587 * ground.g + 0.114 * ground.b > 140 ? kBlack : kWhite;
}

// Stroke and letter sizes that suit a picture.
int picture_scale(int width, int height) {
  constexpr int kPixelsPerStep = 400;
  return std::clamp((std::min(width, height) + kPixelsPerStep / 2) / kPixelsPerStep, 1, 6);
}

void draw_tag(Canvas& canvas, PixelRect box, const DrawnBox& drawn, int scale) {
  const std::string text = fit_text(drawn.text, canvas.width() - 2 * scale, scale);
  if (text.empty()) return;
  const int width = text_width(text, scale) + scale;
  const int height = text_height(scale) + scale;
  const int x = std::clamp(box.x0, 0, std::max(canvas.width() - width, 0));
  int y = drawn.ground_truth ? box.y1 : box.y0 - height;
  if (y < 0) y = box.y0;
  if (y + height > canvas.height()) y = box.y1 - height;
  y = std::clamp(y, 0, std::max(canvas.height() - height, 0));
  const Rgb color = class_color(drawn.label);
  const Rgb ground = drawn.ground_truth ? kWhite : color;
  canvas.fill({x, y, x + width, y + height}, ground);
  if (drawn.ground_truth)
    canvas.outline({x, y, x + width, y + height}, {.color = color, .thickness = scale});
  canvas.text(x + scale, y + scale, text, ink_on(ground), scale);
}

// Far outside the picture is as good as infinitely far, and fits an int.
PixelRect pixel_rect(const DrawnBox& box) {
  const auto pixel = [](float value) {
    constexpr float kFar = 1e6f;
    return static_cast<int>(std::lround(std::clamp(value, -kFar, kFar)));
  };
  return {pixel(box.x0), pixel(box.y0), pixel(box.x1), pixel(box.y1)};
}

bool is_finite(const DrawnBox& box) {
  return std::isfinite(box.x0) && std::isfinite(box.y0) && std::isfinite(box.x1) &&
         std::isfinite(box.y1);
}

// White gaps keep the dashes visible on a prediction of the same place and colour.
void draw_outline(Canvas& canvas, PixelRect rect, const DrawnBox& box, int scale) {
  const int thickness = scale + 1;
  const Rgb color = class_color(box.label);
  canvas.outline(rect, {.color = box.ground_truth ? kWhite : color, .thickness = thickness});
  if (box.ground_truth)
    canvas.outline(rect, {.color = color, .thickness = thickness, .dash = 5 * scale});
}

}  // namespace

Rgb class_color(int label) {
  constexpr double kGoldenAngle = 0.381966;  // of a turn
  constexpr int kNumFirst = static_cast<int>(kFirstColors.size());
  if (label <= 0) return kGray;
  if (label <= kNumFirst) return kFirstColors[static_cast<std::size_t>(label - 1)];
  const int index = label - kNumFirst;
  return hsv(std::fmod(index * kGoldenAngle, 1), index % 2 == 0 ? 0.55 : 0.85,
             index % 3 == 0 ? 0.75 : 0.95);
}

void draw_boxes(Image& image, std::span<const DrawnBox> boxes) {
  Canvas canvas(std::move(image));
  const int scale = picture_scale(canvas.width(), canvas.height());
  // Tags after all outlines, so that no line crosses a text.
  for (const bool ground_truth : {false, true})
    for (const DrawnBox& box : boxes)
      if (box.ground_truth == ground_truth && is_finite(box))
        draw_outline(canvas, pixel_rect(box), box, scale);
  for (const bool ground_truth : {true, false})
    for (const DrawnBox& box : boxes)
      if (box.ground_truth == ground_truth && is_finite(box))
        draw_tag(canvas, pixel_rect(box), box, scale);
  image = std::move(canvas).take();
}

const std::vector<Rgb>& label_colors(bool has_background) {
  static const std::vector<Rgb> shifted = [] {
    std::vector<Rgb> colors(voc_palette().begin() + 1, voc_palette().end());
    colors.insert(colors.end() - 1, kGray);  // "void" stays at 255
    return colors;
  }();
  return has_background ? voc_palette() : shifted;
}

Image overlay_labels(const Image& image, const LabelImage& labels, const OverlayStyle& style) {
  REQUIRE(image.width == labels.width && image.height == labels.height,
          "image {} x {}, labels {} x {}", image.width, image.height, labels.width, labels.height);
  const double opacity = style.opacity;
  REQUIRE(opacity >= 0 && opacity <= 1, "opacity {}", opacity);
  const std::vector<Rgb>& palette = label_colors(style.has_background);
  Image result = image;
  for (std::size_t i = 0; i < labels.pixels.size(); ++i) {
    const int label = labels.pixels[i];
    if (label == 0 && style.has_background) continue;
    const Rgb color =
        label == style.ignore ? kWhite : palette[static_cast<std::size_t>(label) % palette.size()];
    const std::array<std::uint8_t, 3> rgb = {color.r, color.g, color.b};
    for (std::size_t c = 0; c < rgb.size(); ++c) {
      std::uint8_t& value = result.rgb[3 * i + c];
      value = to_byte((value * (1 - opacity) + rgb[c] * opacity) / 255);
    }
  }
  return result;
}

std::vector<LegendEntry> class_legend(const Dataset& dataset) {
  std::vector<LegendEntry> entries;
  for (std::size_t k = 0; k < std::min(dataset.class_names().size(), kLegendEntries); ++k) {
    entries.push_back({class_color(dataset.class_label(k)), dataset.class_names()[k]});
  }
  return entries;
}

std::vector<LegendEntry> label_map_legend(const std::vector<std::string>& class_names,
                                          bool has_background) {
  std::vector<LegendEntry> entries;
  for (std::size_t k = 0; k < std::min(class_names.size(), kLegendEntries); ++k) {
    entries.push_back({label_colors(has_background)[k], class_names[k]});
  }
  return entries;
}

Image denormalise(std::span<const float> planar, int width, int height,
                  const std::array<float, 3>& mean, const std::array<float, 3>& std) {
  const std::size_t plane = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  REQUIRE(width > 0 && height > 0 && planar.size() == 3 * plane, "{} values, {} x {}",
          planar.size(), width, height);
  Image image{.width = width, .height = height, .rgb = std::vector<std::uint8_t>(3 * plane)};
  for (std::size_t c = 0; c < 3; ++c)
    for (std::size_t i = 0; i < plane; ++i) {
      const double value = double{planar[c * plane + i]} * std[c] + mean[c];
      image.rgb[3 * i + c] = std::isnan(value) ? std::uint8_t{0} : to_byte(value);
    }
  return image;
}

Image enlarged(const Image& image, int factor) {
  REQUIRE(factor > 0, "factor {}", factor);
  Canvas canvas(image.width * factor, image.height * factor, kBlack);
  const Canvas source(image);
  for (int y = 0; y < canvas.height(); ++y)
    for (int x = 0; x < canvas.width(); ++x) canvas.set(x, y, source.at(x / factor, y / factor));
  return std::move(canvas).take();
}

Image reduced(const Image& image, int factor) {
  REQUIRE(factor > 0 && std::min(image.width, image.height) >= factor, "factor {}", factor);
  Image small{image.width / factor, image.height / factor, {}};
  small.rgb.reserve(static_cast<std::size_t>(3 * small.width) * small.height);
  for (int y = 0; y < small.height; ++y) {
    for (int x = 0; x < small.width; ++x) {
      for (int c = 0; c < 3; ++c) {
        int sum = 0;
        for (int i = 0; i < factor * factor; ++i) {
          const int row = y * factor + i / factor, column = x * factor + i % factor;
          sum += image.rgb[static_cast<std::size_t>(3 * (row * image.width + column) + c)];
        }
        small.rgb.push_back(static_cast<std::uint8_t>(sum / (factor * factor)));
      }
    }
  }
  return small;
}

}  // namespace trainer
