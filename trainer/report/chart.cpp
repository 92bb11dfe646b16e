#include "trainer/report/chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "comm/error.h"
#include "trainer/report/axis_map.h"
#include "trainer/report/svg.h"

namespace trainer {

namespace {

constexpr double kWidth = 800, kHeight = 460;
constexpr double kTop = 48, kBottom = 62;
constexpr double kMargin = 20, kWidestLegend = 250, kLegendRow = 19;
constexpr double kLegendText = 65;  // of a legend's width, what is not text
constexpr double kTickSize = 12, kLabelSize = 13, kTitleSize = 16;
constexpr const char* kGridColor = "#e4e4e4";
constexpr const char* kTextColor = "#333333";
constexpr const char* kGrayColor = "#9a9a9a";

// Okabe and Ito's palette (Color Universal Design, 2008) without yellow, which white swallows.
constexpr std::array<const char*, 7> kPalette = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                 "#e69f00", "#56b4e9", "#333333"};
constexpr std::array<const char*, 4> kDashes = {"", "7 3", "2 3", "9 3 2 3"};

struct Look {
  SvgLine line;
  std::string name;
};

Look look_of(const Series& series, std::size_t position) {
  Look look;
  look.name = series.name;
  if (series.color == kGray) {
    look.line.color = kGrayColor;
  } else {
    const std::size_t index = series.color >= 0 ? static_cast<std::size_t>(series.color) : position;
    look.line.color = kPalette[index % kPalette.size()];
    look.line.dash = kDashes[index / kPalette.size() % kDashes.size()];
  }
  const bool faint = series.style == SeriesStyle::kFaint;
  look.line.width = faint ? 1 : 2;
  look.line.opacity = faint ? 0.4 : 1;
  return look;
}

struct Plot {
  Svg& svg;
  AxisMap x, y;
  double left, right, top, bottom;
};

std::vector<double> x_values(const Chart& chart) {
  std::vector<double> values;
  for (const Series& series : chart.series)
    values.insert(values.end(), series.x.begin(), series.x.end());
  return values;
}

std::vector<double> y_values(const Chart& chart) {
  std::vector<double> values;
  for (const Series& series : chart.series)
    for (std::size_t i = 0; i < series.y.size(); ++i) {
      const double error = series.error.empty() ? 0 : series.error[i];
      values.push_back(series.y[i] - error);
      values.push_back(series.y[i] + error);
      values.push_back(series.y[i]);
    }
  return values;
}

void draw_frame(Plot& plot, const Chart& chart) {
  const double middle = (plot.left + plot.right) / 2;
  plot.svg.text({kWidth / 2, 28}, fit_svg_text(chart.title, kWidth - 2 * kMargin, kTitleSize),
                {.size = kTitleSize, .anchor = Anchor::kMiddle, .bold = true});
  for (const Tick& tick : plot.x.ticks()) {
    const double x = plot.x.pixel(tick.value);
    if (!tick.label.empty()) plot.svg.line({x, plot.top}, {x, plot.bottom}, {.color = kGridColor});
    plot.svg.line({x, plot.bottom}, {x, plot.bottom + (tick.label.empty() ? 3 : 5)}, {});
    plot.svg.text({x, plot.bottom + 19}, tick.label,
                  {.size = kTickSize, .anchor = Anchor::kMiddle});
  }
  for (const Tick& tick : plot.y.ticks()) {
    const double y = plot.y.pixel(tick.value);
    if (!tick.label.empty()) plot.svg.line({plot.left, y}, {plot.right, y}, {.color = kGridColor});
    plot.svg.line({plot.left - (tick.label.empty() ? 3 : 5), y}, {plot.left, y}, {});
    plot.svg.text({plot.left - 9, y + 4}, tick.label, {.size = kTickSize, .anchor = Anchor::kEnd});
  }
  plot.svg.line({plot.left, plot.bottom}, {plot.right, plot.bottom}, {});
  plot.svg.line({plot.left, plot.top}, {plot.left, plot.bottom}, {});
  plot.svg.text({middle, kHeight - 16},
                fit_svg_text(chart.x.label, plot.right - plot.left, kLabelSize),
                {.size = kLabelSize, .anchor = Anchor::kMiddle});
  plot.svg.text({kMargin + 4, (plot.top + plot.bottom) / 2},
                fit_svg_text(chart.y.label, plot.bottom - plot.top, kLabelSize),
                {.size = kLabelSize, .anchor = Anchor::kMiddle, .rotation = -90});
}

// The points of one pixel column that a line needs: first, lowest, highest and last.
class Thinner {
 public:
  explicit Thinner(std::vector<Point>& out) : out_(out) {}
  void add(Point point) {
    const double column = std::floor(point.x);
    if (points_.empty() || column != column_) {
      flush();
      column_ = column;
    }
    points_.push_back(point);
  }
  void flush() {
    if (points_.size() > 4) {
      const auto lower = [](const Point& a, const Point& b) { return a.y < b.y; };
      const auto [low, high] = std::minmax_element(points_.begin(), points_.end(), lower);
      out_.push_back(points_.front());
      out_.push_back(low < high ? *low : *high);
      out_.push_back(low < high ? *high : *low);
      out_.push_back(points_.back());
    } else {
      out_.insert(out_.end(), points_.begin(), points_.end());
    }
    points_.clear();
  }

 private:
  std::vector<Point>& out_;
  std::vector<Point> points_;
  double column_ = 0;
};

Point inside(const Plot& plot, double x, double y) {
  return {std::clamp(plot.x.pixel(x), plot.left, plot.right),
          std::clamp(plot.y.pixel(y), plot.top, plot.bottom)};
}

void draw_line(Plot& plot, const Series& series, const SvgLine& style) {
  std::vector<Point> points;
  Thinner thinner(points);
  const auto end_piece = [&] {
    thinner.flush();
    if (points.size() > 1) plot.svg.polyline(points, style);
    if (points.size() == 1) plot.svg.circle(points[0], style.width, style.color);
    points.clear();
  };
  for (std::size_t i = 0; i < series.x.size(); ++i) {
    if (plot.x.usable(series.x[i]) && plot.y.usable(series.y[i]))
      thinner.add(inside(plot, series.x[i], series.y[i]));
    else
      end_piece();
  }
  end_piece();
}

void draw_error_bars(Plot& plot, const Series& series, const SvgLine& style) {
  constexpr double kCap = 4;
  const SvgLine bar = {.color = style.color, .width = 1.3};
  for (std::size_t i = 0; i < series.error.size(); ++i) {
    const double error = series.error[i];
    const double high = series.y[i] + error;
    if (!(error > 0) || !plot.x.usable(series.x[i]) || !plot.y.usable(high)) continue;
    const double low = plot.y.usable(series.y[i] - error) ? series.y[i] - error : plot.y.low();
    const Point upper = inside(plot, series.x[i], high);
    const Point lower = inside(plot, series.x[i], low);
    plot.svg.line(upper, lower, bar);
    for (const Point& end : {upper, lower})
      plot.svg.line({end.x - kCap, end.y}, {end.x + kCap, end.y}, bar);
  }
}

void draw_markers(Plot& plot, const Series& series, const SvgLine& style) {
  for (std::size_t i = 0; i < series.x.size(); ++i) {
    if (!plot.x.usable(series.x[i]) || !plot.y.usable(series.y[i])) continue;
    const Point point = inside(plot, series.x[i], series.y[i]);
    plot.svg.circle(point, 5, "#ffffff");
    plot.svg.circle(point, 3.8, style.color);
  }
}

void draw_marks(Plot& plot, const std::vector<Mark>& marks) {
  constexpr double kRow = 16;
  double y = plot.top + 12;
  for (const Mark& mark : marks) {
    if (!plot.x.usable(mark.x) || mark.x < plot.x.low() || mark.x > plot.x.high()) continue;
    const double x = plot.x.pixel(mark.x);
    plot.svg.line({x, plot.top}, {x, plot.bottom}, {.color = "#666666", .dash = "4 3"});
    const bool to_left = x > (plot.left + plot.right) / 2;
    const double room = to_left ? x - plot.left : plot.right - x;
    const std::string label = fit_svg_text(mark.label, room - 8, kTickSize);
    const double width = svg_text_width(label, kTickSize);
    plot.svg.rect({to_left ? x - 4 - width : x + 3, y - 11}, width + 1, kRow - 1, "#ffffff");
    plot.svg.text({to_left ? x - 5 : x + 5, y}, label,
                  {.size = kTickSize, .anchor = to_left ? Anchor::kEnd : Anchor::kStart});
    y += kRow;
  }
}

void draw_legend(Plot& plot, const std::vector<Look>& looks) {
  const double x = plot.right + 22;
  const auto num_rows = static_cast<std::size_t>((plot.bottom - plot.top) / kLegendRow);
  double y = plot.top + 10;
  for (std::size_t i = 0; i < looks.size(); ++i, y += kLegendRow) {
    if (i + 1 == num_rows && looks.size() > num_rows) {
      plot.svg.text({x, y}, "\u2026 " + std::to_string(looks.size() - i) + " more",
                    {.size = kTickSize, .color = "#666666"});
      return;
    }
    plot.svg.line({x, y - 4}, {x + 26, y - 4}, looks[i].line);
    plot.svg.text({x + 33, y}, fit_svg_text(looks[i].name, kWidestLegend - kLegendText, kTickSize),
                  {.size = kTickSize});
  }
}

void check(const Chart& chart) {
  for (const Series& series : chart.series) {
    REQUIRE(series.x.size() == series.y.size(), "series \"{}\": {} x, {} y", series.name,
            series.x.size(), series.y.size());
    REQUIRE(series.error.empty() || series.error.size() == series.y.size(),
            "series \"{}\": {} y, {} error", series.name, series.y.size(), series.error.size());
  }
}

bool anything_to_show(const Plot& plot, const Chart& chart) {
  for (const Series& series : chart.series)
    for (std::size_t i = 0; i < series.x.size(); ++i)
      if (plot.x.usable(series.x[i]) && plot.y.usable(series.y[i])) return true;
  return false;
}

double legend_width(const std::vector<Look>& looks) {
  double width = 0;
  for (const Look& look : looks) width = std::max(width, svg_text_width(look.name, kTickSize));
  return std::min(kLegendText + width, kWidestLegend);
}

double widest_label(const AxisMap& axis) {
  double width = 0;
  for (const Tick& tick : axis.ticks())
    width = std::max(width, svg_text_width(tick.label, kTickSize));
  return width;
}

}  // namespace

std::string chart_svg(const Chart& chart) {
  check(chart);
  std::vector<Look> looks, legend;
  for (const Series& series : chart.series) {
    looks.push_back(look_of(series, looks.size()));
    if (series.style != SeriesStyle::kFaint && !series.name.empty()) legend.push_back(looks.back());
  }
  const bool has_points =
      std::any_of(chart.series.begin(), chart.series.end(),
                  [](const Series& series) { return series.style == SeriesStyle::kPoints; });
  Svg svg(kWidth, kHeight);
  Plot plot{svg,
            AxisMap(chart.x, x_values(chart), has_points ? 0.04 : 0),
            AxisMap(chart.y, y_values(chart), 0.05),
            0,
            kWidth - (legend.size() > 1 ? legend_width(legend) : kMargin + 10),
            kTop,
            kHeight - kBottom};
  plot.left = kMargin + 26 + widest_label(plot.y);
  plot.x.place(plot.left, plot.right);
  plot.y.place(plot.bottom, plot.top);
  draw_frame(plot, chart);
  if (!anything_to_show(plot, chart))
    svg.text({(plot.left + plot.right) / 2, (plot.top + plot.bottom) / 2}, "no data",
             {.size = kTitleSize, .anchor = Anchor::kMiddle, .color = kGrayColor});
  // Faint series lie below the others.
  for (const bool faint : {true, false})
    for (std::size_t i = 0; i < chart.series.size(); ++i) {
      const Series& series = chart.series[i];
      if ((series.style == SeriesStyle::kFaint) != faint) continue;
      draw_line(plot, series, looks[i].line);
      draw_error_bars(plot, series, looks[i].line);
      if (series.style == SeriesStyle::kPoints) draw_markers(plot, series, looks[i].line);
    }
  draw_marks(plot, chart.marks);
  if (legend.size() > 1) draw_legend(plot, legend);
  return svg.document();
}

}  // namespace trainer
