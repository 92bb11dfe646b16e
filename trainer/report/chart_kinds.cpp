#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "comm/error.h"
#include "trainer/report/chart.h"

namespace trainer {

Series smoothed(const Series& series, int window) {
  REQUIRE(window > 0, "window {}", window);
  Series result = series;
  result.style = SeriesStyle::kLine;
  result.error.clear();
  const std::size_t before = static_cast<std::size_t>(window - 1) / 2;
  const std::size_t after = static_cast<std::size_t>(window) / 2;
  std::vector<double> values;
  for (std::size_t i = 0; i < series.y.size(); ++i) {
    values.clear();
    const std::size_t end = std::min(i + after + 1, series.y.size());
    for (std::size_t j = i - std::min(i, before); j < end; ++j)
      if (std::isfinite(series.y[j])) values.push_back(series.y[j]);
    std::sort(values.begin(), values.end());
    const std::size_t n = values.size();
    result.y[i] = n == 0 ? std::numeric_limits<double>::quiet_NaN()
                         : (values[(n - 1) / 2] + values[n / 2]) / 2;
  }
  return result;
}

std::string precision_recall_svg(const std::string& title,
                                 const std::vector<PrecisionRecallCurve>& curves) {
  constexpr std::size_t kNamedCurves = 10;
  Chart chart;
  chart.title = title;
  chart.x = {.label = "recall", .low = 0, .high = 1};
  chart.y = {.label = "precision", .low = 0, .high = 1.02};
  for (const PrecisionRecallCurve& curve : curves) {
    const bool named = chart.series.size() < kNamedCurves;
    const std::string precision = std::isfinite(curve.average_precision)
                                      ? fmt::format("{:.3f}", curve.average_precision)
                                      : std::string("-");
    chart.series.push_back({.name = fmt::format("{}  {}", precision, curve.name),
                            .x = curve.recall,
                            .y = curve.precision,
                            .style = named ? SeriesStyle::kLine : SeriesStyle::kFaint,
                            .color = named ? kColorByPosition : kGray});
  }
  return chart_svg(chart);
}

}  // namespace trainer
