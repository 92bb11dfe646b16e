#include "trainer/report/run_curves.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trainer/report/append_file.h"
#include "trainer/report/chart.h"
#include "trainer/report/metrics_file.h"

namespace trainer {

namespace {

constexpr std::size_t kMostMetrics = 12;  // curves that one picture can tell apart

Series series_of(const std::vector<MetricsLine>& lines, const std::string& key) {
  Series series;
  series.name = key;
  for (const MetricsLine& line : lines) {
    const auto value = line.values.find(key);
    if (value == line.values.end()) continue;
    series.x.push_back(static_cast<double>(line.step));
    series.y.push_back(value->second);
  }
  return series;
}

std::vector<std::string> keys_of(const std::vector<MetricsLine>& lines) {
  std::map<std::string, double> all;
  for (const MetricsLine& line : lines) all.insert(line.values.begin(), line.values.end());
  std::vector<std::string> keys;
  for (const auto& [key, value] : all) keys.push_back(key);
  return keys;
}

// Linear hides the tail of a curve that falls over orders of magnitude.
Scale scale_for(const std::vector<Series>& curves) {
  constexpr double kWideRange = 30;
  double low = INFINITY, high = 0;
  for (const Series& series : curves)
    for (const double value : series.y)
      if (value > 0) low = std::min(low, value), high = std::max(high, value);
  return high > kWideRange * low ? Scale::kLog : Scale::kLinear;
}

void draw_losses(const std::vector<MetricsLine>& lines, const std::filesystem::path& folder) {
  constexpr std::size_t kFewestToSmooth = 40;
  constexpr int kWindow = 20;
  Chart chart{.title = "Training loss", .x = {.label = "step", .low = 0}, .y = {.label = "loss"}};
  int color = 0;
  std::vector<Series> curves;
  for (const std::string& key : keys_of(lines)) {
    if (key != "loss" && !key.starts_with("loss_")) continue;
    Series raw = series_of(lines, key);
    raw.color = color++;
    curves.push_back(raw.y.size() < kFewestToSmooth ? raw : smoothed(raw, kWindow));
    if (raw.y.size() < kFewestToSmooth) continue;
    raw.style = SeriesStyle::kFaint;
    chart.series.push_back(std::move(raw));
  }
  if (curves.empty()) return;
  chart.y.scale = scale_for(curves);
  chart.series.insert(chart.series.end(), curves.begin(), curves.end());
  write_file(folder / "loss.svg", chart_svg(chart));
}

// "weight_norm/decay": a picture for each quantity, a curve for each group of parameters.
void draw_groups(const std::vector<MetricsLine>& lines, const std::filesystem::path& folder) {
  for (const auto& [quantity, title] :
       {std::pair{"penalty", "L2 penalty"}, std::pair{"weight_norm", "Norm of the weights"},
        std::pair{"update_ratio", "Update over weights, norms"},
        std::pair{"sparsity", "Share of weights that are 0"}}) {
    const std::string prefix = std::string(quantity) + "/";
    Chart chart{.title = title, .x = {.label = "step", .low = 0}, .y = {.label = quantity}};
    for (const std::string& key : keys_of(lines)) {
      if (!key.starts_with(prefix) || chart.series.size() == kMostMetrics) continue;
      chart.series.push_back(series_of(lines, key));
      chart.series.back().name = key.substr(prefix.size());
    }
    if (chart.series.empty()) continue;
    chart.y.scale = scale_for(chart.series);
    write_file(folder / (std::string(quantity) + ".svg"), chart_svg(chart));
  }
}

void draw_metrics(const std::vector<MetricsLine>& lines, const std::filesystem::path& folder) {
  Chart chart{.title = "Evaluation", .x = {.label = "step", .low = 0}, .y = {.label = "metric"}};
  for (const std::string& key : keys_of(lines)) {
    if (key.find("per_class") != key.npos || chart.series.size() == kMostMetrics) continue;
    Series series = series_of(lines, key);
    series.style = SeriesStyle::kPoints;
    chart.series.push_back(std::move(series));
  }
  if (!chart.series.empty()) write_file(folder / "metrics.svg", chart_svg(chart));
}

}  // namespace

void draw_run_curves(const std::filesystem::path& metrics_file,
                     const std::filesystem::path& folder) {
  std::vector<MetricsLine> training, evaluation;
  for (MetricsLine& line : read_metrics(metrics_file))
    (line.split.empty() ? training : evaluation).push_back(std::move(line));
  draw_losses(training, folder);
  const Series lr = series_of(training, "lr");
  if (!lr.x.empty())
    write_file(folder / "lr.svg", chart_svg({.title = "Learning rate",
                                             .x = {.label = "step", .low = 0},
                                             .y = {.label = "learning rate"},
                                             .series = {lr},
                                             .marks = {}}));
  draw_groups(training, folder);
  draw_metrics(evaluation, folder);
}

}  // namespace trainer
