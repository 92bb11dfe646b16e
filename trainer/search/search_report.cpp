#include "trainer/search/search_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "trainer/report/text_table.h"

namespace trainer {
namespace {

std::string number(double value, const char* sign = "") {
  return std::isfinite(value) ? fmt::format("{}{:.4f}", value < 0 ? "" : sign, value) : "-";
}

// "0.9612 ± 0.0021"
std::string with_spread(double mean, double spread, const char* sign = "") {
  return number(mean, sign) + (std::isfinite(spread) ? " ± " + number(spread) : "");
}

std::string marks(const Summary& summary, int index) {
  std::string text = index == summary.best ? "best" : "";
  if (index == summary.one_error) text += text.empty() ? "1 SE" : ", 1 SE";
  return text;
}

std::string notes(const SearchResult& result) {
  std::string text = fmt::format(
      "{}: mean ± sd over {} fold{} x {} seed{}; difference to the best: mean ± standard error "
      "over the pairs of seed and fold both have\n",
      result.metric, result.folds, result.folds == 1 ? " (val)" : "s", result.seeds,
      result.seeds == 1 ? "" : "s");
  if (result.summary.one_error >= 0)
    text += "1 SE: the most regularised within one standard error of the best\n";
  for (const CandidateSummary& candidate : result.summary.candidates) {
    if (candidate.num_failed > 0)
      text += fmt::format("{}: {} failed; {}\n", fmt::join(candidate.values, ", "),
                          candidate.num_failed, candidate.reason);
  }
  return text;
}

// The numbers of a key's values, or their places where some are words.
std::vector<double> positions(const Summary& summary, std::size_t key) {
  std::vector<double> numbers, places;
  std::map<std::string, double> place;
  bool all = true;
  for (const CandidateSummary& candidate : summary.candidates) {
    const std::string& value = candidate.values[key];
    const auto given = as_number(value);
    all = all && given.has_value();
    numbers.push_back(given.value_or(0));
    places.push_back(place.try_emplace(value, static_cast<double>(place.size()) + 1).first->second);
  }
  return all ? numbers : places;
}

void add_point(Series& series, double x, const Statistics& metric) {
  series.x.push_back(x);
  series.y.push_back(1 - metric.mean);
  series.error.push_back(std::isfinite(metric.error) ? metric.error : 0);
}

// Values of the keys behind the first: "optimizer.lr=0.1".
std::string other_values(const SearchResult& result, const CandidateSummary& candidate) {
  std::string text;
  for (std::size_t k = 1; k < result.overs.size(); ++k)
    text += fmt::format(" {}={}", result.overs[k].key, candidate.values[k]);
  return text;
}

}  // namespace

std::vector<std::string> SearchResult::keys() const {
  std::vector<std::string> keys;
  for (const Over& over : overs) keys.push_back(over.key);
  return keys;
}

std::string result_table(const SearchResult& result) {
  std::vector<TextTable::Column> columns;
  for (const Over& over : result.overs) columns.push_back({over.key, Align::kRight});
  for (const char* title : {"trials", "failed", "held out", "training", "difference"})
    columns.push_back({title, Align::kRight});
  columns.push_back({"choice", Align::kLeft});
  TextTable table(columns);
  const Summary& summary = result.summary;
  for (std::size_t c = 0; c < summary.candidates.size(); ++c) {
    const CandidateSummary& candidate = summary.candidates[c];
    std::vector<std::string> cells = candidate.values;
    cells.push_back(std::to_string(candidate.metric.count));
    cells.push_back(std::to_string(candidate.num_failed));
    cells.push_back(with_spread(candidate.metric.mean, candidate.metric.sd));
    cells.push_back(with_spread(candidate.train_metric.mean, candidate.train_metric.sd));
    const bool is_best = static_cast<int>(c) == summary.best;
    cells.push_back(
        is_best ? "" : with_spread(candidate.difference.mean, candidate.difference.error, "+"));
    cells.push_back(marks(summary, static_cast<int>(c)));
    if (candidate.rung > 0) cells.back() += fmt::format(" (rung {})", candidate.rung + 1);
    table.row(std::move(cells));
  }
  return table.text() + notes(result);
}

std::string curve_svg(const SearchResult& result) {
  const Summary& summary = result.summary;
  const std::vector<double> x = positions(summary, 0);
  std::map<std::string, std::pair<Series, Series>> curves;  // held out, training
  std::vector<std::size_t> order(x.size());
  for (std::size_t c = 0; c < order.size(); ++c) order[c] = c;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return x[a] < x[b]; });
  // Drawn points have other values of the other keys each: they are one curve.
  const bool one_curve = result.strategy == "random";
  for (const std::size_t c : order) {
    const CandidateSummary& candidate = summary.candidates[c];
    if (candidate.metric.count == 0) continue;
    auto& [held_out, training] = curves[one_curve ? "" : other_values(result, candidate)];
    add_point(held_out, x[c], candidate.metric);
    add_point(training, x[c], candidate.train_metric);
  }
  const Over& first = result.overs.front();
  Chart chart;
  chart.title = fmt::format("Error over {} (bars: one standard error)", first.key);
  const bool positive = std::all_of(x.begin(), x.end(), [](double v) { return v > 0; });
  chart.x = {first.key, first.listed.empty() && positive ? first.scale : Scale::kLinear};
  chart.y = {"1 - " + result.metric};
  int color = 0;
  for (auto& [name, pair] : curves) {
    pair.first.name = "held out" + name;
    pair.second.name = "training" + name;
    for (Series* series : {&pair.first, &pair.second}) {
      series->style = SeriesStyle::kPoints;
      series->color = color++;
      chart.series.push_back(std::move(*series));
    }
  }
  const auto mark = [&](int index, const char* label) {
    if (index >= 0) chart.marks.push_back({x[static_cast<std::size_t>(index)], label});
  };
  mark(summary.best, summary.best == summary.one_error ? "best, 1 SE" : "best");
  if (summary.best != summary.one_error) mark(summary.one_error, "1 SE");
  return chart_svg(chart);
}

}  // namespace trainer
