#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>

#include "comm/error.h"
#include "trainer/report/chart.h"
#include "trainer/report/svg.h"

namespace trainer {

namespace {

constexpr double kSide = 560;  // of the cells together, if they need not be larger or smaller
constexpr double kLargestCell = 64, kSmallestCell = 2;
constexpr double kNamedCell = 9;  // keeps names readable up to kMostNames classes
constexpr double kMostNames = 100;
constexpr double kSlantedCell = 16;  // column names over smaller cells stand upright
constexpr double kTop = 56, kMargin = 24, kBar = 90;
constexpr double kLongestName = 150;
constexpr double kSmallestName = 6;  // names of smaller cells would not be readable
constexpr std::size_t kMostCounts = 40, kMostShares = 12;

// White to dark blue; luminance falls all the way.
std::string share_color(double share) {
  constexpr std::array<std::array<double, 3>, 3> kStops = {
      {{247, 251, 255}, {107, 174, 214}, {8, 48, 107}}};
  const double at = std::clamp(share, 0.0, 1.0) * (kStops.size() - 1);
  const auto low = std::min(static_cast<std::size_t>(at), kStops.size() - 2);
  std::array<int, 3> rgb;
  for (std::size_t i = 0; i < rgb.size(); ++i)
    rgb[i] = static_cast<int>(std::lround(
        kStops[low][i] + (at - static_cast<double>(low)) * (kStops[low + 1][i] - kStops[low][i])));
  return fmt::format("#{:02x}{:02x}{:02x}", rgb[0], rgb[1], rgb[2]);
}

// At most four characters.
std::string short_count(double count) {
  if (count < 1e4) return fmt::format("{:.0f}", count);
  for (const auto& [unit, suffix] : {std::pair{1e3, 'k'}, {1e6, 'M'}, {1e9, 'G'}})
    if (count < 999.5 * unit)
      return fmt::format("{:.{}f}{}", count / unit, count < 9.95 * unit ? 1 : 0, suffix);
  return fmt::format("{:.0e}", count);
}

struct Layout {
  double cell, name_size;
  double left, top;  // of the cells
  double width, height;
};

double longest(const std::vector<std::string>& names, double size) {
  double width = 0;
  for (const std::string& name : names) width = std::max(width, svg_text_width(name, size));
  return std::min(width, kLongestName);
}

Layout lay_out(const ConfusionMatrix& matrix) {
  Layout layout;
  const double num_rows = static_cast<double>(matrix.truths.size());
  const double num_columns = static_cast<double>(matrix.predictions.size());
  const double num_classes = std::max({num_rows, num_columns, 1.0});
  layout.cell = std::clamp(kSide / num_classes,
                           num_classes <= kMostNames ? kNamedCell : kSmallestCell, kLargestCell);
  layout.name_size = std::min(12.0, 0.95 * layout.cell);
  const bool named = layout.name_size >= kSmallestName;
  layout.left = kMargin + 24 + (named ? longest(matrix.truths, layout.name_size) : 0);
  layout.top = kTop;
  const double slope = layout.cell < kSlantedCell ? 1 : 0.7;
  const double below = named ? longest(matrix.predictions, layout.name_size) * slope + 8 : 8;
  layout.width = std::max(layout.left + num_columns * layout.cell + kBar, 420.0);
  layout.height = std::max(layout.top + num_rows * layout.cell, layout.top + 120) + below + 40;
  return layout;
}

void draw_names(Svg& svg, const ConfusionMatrix& matrix, const Layout& layout) {
  if (layout.name_size < kSmallestName) return;
  const double bottom = layout.top + layout.cell * static_cast<double>(matrix.truths.size());
  for (std::size_t i = 0; i < matrix.truths.size(); ++i)
    svg.text({layout.left - 7,
              layout.top + (static_cast<double>(i) + 0.5) * layout.cell + 0.35 * layout.name_size},
             fit_svg_text(matrix.truths[i], kLongestName, layout.name_size),
             {.size = layout.name_size, .anchor = Anchor::kEnd});
  const bool slanted = layout.cell >= kSlantedCell;
  const Point shift = {(slanted ? 0.3 : 0.35) * layout.name_size,
                       slanted ? 6 + 0.6 * layout.name_size : 5};
  for (std::size_t i = 0; i < matrix.predictions.size(); ++i)
    svg.text(
        {layout.left + (static_cast<double>(i) + 0.5) * layout.cell + shift.x, bottom + shift.y},
        fit_svg_text(matrix.predictions[i], kLongestName, layout.name_size),
        {.size = layout.name_size, .anchor = Anchor::kEnd, .rotation = slanted ? -45.0 : -90.0});
}

void draw_cell(Svg& svg, Point corner, double cell, double count, double share, bool with_share) {
  const Point middle = {corner.x + cell / 2, corner.y + cell / 2};
  const std::string color = share > 0.45 ? "#ffffff" : "#222222";
  const std::string text = short_count(count);
  // Four digits must fit.
  const double size = std::min(14.0, 0.33 * cell);
  const double lift = with_share ? -0.05 * cell : 0.35 * size;
  svg.text({middle.x, middle.y + lift}, text,
           {.size = size, .anchor = Anchor::kMiddle, .color = color});
  if (with_share)
    svg.text({middle.x, middle.y + 0.24 * cell}, fmt::format("{:.0f}%", 100 * share),
             {.size = 0.75 * size, .anchor = Anchor::kMiddle, .color = color});
}

void draw_cells(Svg& svg, const ConfusionMatrix& matrix, const Layout& layout) {
  const std::size_t num_columns = matrix.predictions.size();
  const std::size_t num_classes = std::max(matrix.truths.size(), num_columns);
  for (std::size_t row = 0; row < matrix.truths.size(); ++row) {
    const std::span<const double> counts(&matrix.counts[row * num_columns], num_columns);
    const double sum = std::accumulate(counts.begin(), counts.end(), 0.0);
    for (std::size_t column = 0; column < num_columns; ++column) {
      if (counts[column] == 0) continue;
      const double share = counts[column] / sum;
      const Point corner = {layout.left + static_cast<double>(column) * layout.cell,
                            layout.top + static_cast<double>(row) * layout.cell};
      svg.rect(corner, layout.cell, layout.cell, share_color(share));
      if (num_classes <= kMostCounts)
        draw_cell(svg, corner, layout.cell, counts[column], share, num_classes <= kMostShares);
    }
  }
}

void draw_lines(Svg& svg, const ConfusionMatrix& matrix, const Layout& layout) {
  const double right = layout.left + layout.cell * static_cast<double>(matrix.predictions.size());
  const double bottom = layout.top + layout.cell * static_cast<double>(matrix.truths.size());
  const SvgLine inner = {.color = "#d8d8d8", .width = 0.6};
  const SvgLine outer = {.color = "#555555"};
  if (layout.cell >= kSmallestName) {
    for (std::size_t i = 1; i < matrix.truths.size(); ++i) {
      const double y = layout.top + static_cast<double>(i) * layout.cell;
      svg.line({layout.left, y}, {right, y}, inner);
    }
    for (std::size_t i = 1; i < matrix.predictions.size(); ++i) {
      const double x = layout.left + static_cast<double>(i) * layout.cell;
      svg.line({x, layout.top}, {x, bottom}, inner);
    }
  }
  const std::array<Point, 5> frame = {{{layout.left, layout.top},
                                       {right, layout.top},
                                       {right, bottom},
                                       {layout.left, bottom},
                                       {layout.left, layout.top}}};
  svg.polyline(frame, outer);
}

void draw_color_bar(Svg& svg, double left, double top, double height) {
  constexpr int kSteps = 50;
  constexpr double kBarWidth = 14;
  for (int i = 0; i < kSteps; ++i)
    svg.rect({left, top + height * i / kSteps}, kBarWidth, height / kSteps + 0.5,
             share_color(1 - (i + 0.5) / kSteps));
  for (const int percent : {0, 50, 100})
    svg.text({left + kBarWidth + 5, top + height * (100 - percent) / 100 + 4},
             fmt::format("{}%", percent), {.size = 11});
  svg.text({left, top - 9}, "of row", {.size = 11});
}

}  // namespace

std::string confusion_svg(const ConfusionMatrix& matrix) {
  REQUIRE(matrix.counts.size() == matrix.truths.size() * matrix.predictions.size(),
          "{} counts, {} truths, {} predictions", matrix.counts.size(), matrix.truths.size(),
          matrix.predictions.size());
  const Layout layout = lay_out(matrix);
  const double cells_width = layout.cell * static_cast<double>(matrix.predictions.size());
  const double cells_height = layout.cell * static_cast<double>(matrix.truths.size());
  Svg svg(layout.width, layout.height);
  svg.text({layout.width / 2, 26}, fit_svg_text(matrix.title, layout.width - 2 * kMargin, 16),
           {.size = 16, .anchor = Anchor::kMiddle, .bold = true});
  if (!matrix.counts.empty()) draw_cells(svg, matrix, layout);
  draw_lines(svg, matrix, layout);
  draw_names(svg, matrix, layout);
  svg.text({kMargin, layout.top + cells_height / 2}, "truth",
           {.size = 13, .anchor = Anchor::kMiddle, .rotation = -90});
  svg.text({layout.left + cells_width / 2, layout.height - 14}, "prediction",
           {.size = 13, .anchor = Anchor::kMiddle});
  draw_color_bar(svg, layout.left + cells_width + 22, layout.top + 14,
                 std::clamp(cells_height - 14, 80.0, 220.0));
  return svg.document();
}

}  // namespace trainer
