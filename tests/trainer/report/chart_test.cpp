#include "trainer/report/chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <regex>

#include "comm/error.h"
#include "tests/trainer/report/scratch_folder.h"
#include "trainer/report/metrics_file.h"
#include "trainer/report/run_curves.h"
#include "trainer/report/svg.h"

namespace trainer {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

int count(const std::string& text, const std::string& pattern) {
  int num_found = 0;
  for (std::size_t at = 0; (at = text.find(pattern, at)) != text.npos; at += pattern.size())
    ++num_found;
  return num_found;
}

// Well-formed for the elements that Svg writes, and inert.
void expect_clean(const std::string& svg) {
  EXPECT_EQ(svg.rfind("<?xml", 0), 0u);
  EXPECT_THAT(svg, testing::EndsWith("</svg>\n"));
  const std::string body = svg.substr(svg.find("<svg"));
  const std::regex element(
      "<svg [^<>]*>|</svg>|<(rect|line|polyline|circle)( [a-z0-9-]+=\"[^\"<>]*\")*/>|"
      "<text( [a-z0-9-]+=\"[^\"<>]*\")*>[^<>]*</text>");
  EXPECT_EQ(std::regex_replace(body, element, "").find_first_not_of('\n'), std::string::npos);
  EXPECT_THAT(svg, Not(HasSubstr("script")));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

Chart simple_chart(std::vector<double> y) {
  Chart chart{.title = "T", .x = {.label = "step"}, .y = {.label = "loss"}};
  Series series{.name = "loss"};
  for (std::size_t i = 0; i < y.size(); ++i) series.x.push_back(static_cast<double>(i));
  series.y = std::move(y);
  chart.series.push_back(series);
  return chart;
}

TEST(Svg, TextIsEscaped) {
  EXPECT_EQ(escape_xml("<a href=\"x\">'&\x01"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;\\x01");
  EXPECT_EQ(fit_svg_text("short", 100, 10), "short");
  EXPECT_EQ(fit_svg_text("\u03bb\u03bb\u03bb\u03bb", 18, 10), "\u03bb\u03bb\u2026");
}

TEST(Svg, ShapesAreWrittenAsAsked) {
  Svg svg(100, 50);
  svg.rect({1, 2}, 3, 4, "#ffffff");
  svg.line({0, 0}, {10, 5}, {.color = "#111111", .width = 2, .dash = "4 3", .opacity = 0.5});
  svg.circle({5, 6}, 1.5, "#222222");
  svg.text({7, 8}, "a<b", {.size = 9, .anchor = Anchor::kEnd, .bold = true, .rotation = -90});
  const std::string document = svg.document();
  expect_clean(document);
  EXPECT_THAT(document, HasSubstr(R"(viewBox="0 0 100 50")"));
  EXPECT_THAT(document, HasSubstr(R"(<rect x="1.00" y="2.00" width="3.00" height="4.00")"));
  EXPECT_THAT(document, HasSubstr(R"(stroke-dasharray="4 3" stroke-opacity="0.5")"));
  EXPECT_THAT(document, HasSubstr(R"(text-anchor="end")"));
  EXPECT_THAT(document, HasSubstr(R"x(transform="rotate(-90 7.00 8.00)">a&lt;b</text>)x"));
}

TEST(Chart, HasItsParts) {
  Chart chart = simple_chart({3, 2, 1});
  chart.title = "<Loss> & more";
  chart.series.push_back(chart.series[0]);
  chart.series[1].name = "other";
  const std::string svg = chart_svg(chart);
  expect_clean(svg);
  EXPECT_THAT(svg, HasSubstr(">&lt;Loss&gt; &amp; more<"));
  EXPECT_THAT(svg, HasSubstr(">step<"));
  EXPECT_THAT(svg, HasSubstr(">loss<"));
  EXPECT_THAT(svg, HasSubstr(">other<"));
  EXPECT_EQ(count(svg, "<polyline"), 2);
  EXPECT_THAT(svg, Not(HasSubstr("no data")));
}

TEST(Chart, UndefinedValuesAreGaps) {
  EXPECT_EQ(count(chart_svg(simple_chart({1, 2, NAN, 3, 4})), "<polyline"), 2);
  EXPECT_EQ(count(chart_svg(simple_chart({1, NAN, 3})), "<circle"), 2) << "single points";
  Chart log = simple_chart({1, 2, 0, 3, 4});
  log.y.scale = Scale::kLog;
  EXPECT_EQ(count(chart_svg(log), "<polyline"), 2);
}

TEST(Chart, NothingToShowIsSaid) {
  for (const Chart& chart : {Chart{}, simple_chart({}), simple_chart({NAN, NAN})}) {
    const std::string svg = chart_svg(chart);
    expect_clean(svg);
    EXPECT_THAT(svg, HasSubstr("no data"));
  }
}

TEST(Chart, LongSeriesAreThinnedButKeepTheirSpikes) {
  std::vector<double> y(200'000, 1.0);
  y[77'777] = 50;
  const std::string svg = chart_svg(simple_chart(y));
  EXPECT_LT(svg.size(), 100'000u);
  Chart spike_only = simple_chart({1, 50, 1});
  // The highest point of both lies at the same height.
  const auto highest = [](const std::string& text) {
    const std::string points = text.substr(text.find("points=\""));
    double least = 1e9;
    const std::regex pair(R"(([\d.]+),([\d.]+) )");
    for (std::sregex_iterator it(points.begin(), points.end(), pair), end; it != end; ++it)
      least = std::min(least, std::stod((*it)[2]));
    return least;
  };
  EXPECT_NEAR(highest(svg), highest(chart_svg(spike_only)), 0.01);
}

TEST(Chart, ErrorBarsAndMarks) {
  Chart chart = simple_chart({1, 2, 3});
  chart.series[0].style = SeriesStyle::kPoints;
  chart.y.low = 0;
  chart.y.high = 4;
  const int num_lines = count(chart_svg(chart), "<line");
  chart.series[0].error = {0.5, 0, NAN};
  EXPECT_EQ(count(chart_svg(chart), "<line"), num_lines + 3) << "a bar and its two caps";
  chart.marks = {{1, "best"}, {99, "outside"}};
  const std::string svg = chart_svg(chart);
  expect_clean(svg);
  EXPECT_THAT(svg, HasSubstr(">best<"));
  EXPECT_THAT(svg, Not(HasSubstr(">outside<")));
}

TEST(Chart, LongLegendsAreCut) {
  Chart chart;
  for (int i = 0; i < 40; ++i) {
    chart.series.push_back({.name = "s" + std::to_string(i), .x = {0, 1}, .y = {0, 1.0 * i}});
  }
  const std::string svg = chart_svg(chart);
  expect_clean(svg);
  EXPECT_THAT(svg, HasSubstr(">s5<"));
  EXPECT_THAT(svg, Not(HasSubstr(">s39<")));
  EXPECT_THAT(svg, HasSubstr(" more<"));
  EXPECT_THAT(svg, HasSubstr("stroke-dasharray")) << "colours repeat with dashes";
}

TEST(Chart, ContractsAreChecked) {
  Chart chart = simple_chart({1, 2});
  chart.series[0].x.pop_back();
  EXPECT_THROW(chart_svg(chart), comm::Error);
  chart = simple_chart({1, 2});
  chart.series[0].error = {1};
  EXPECT_THROW(chart_svg(chart), comm::Error);
  EXPECT_THROW(smoothed(chart.series[0], 0), comm::Error);
}

TEST(Smoothed, IsTheRunningMedian) {
  const Series series{.name = "a", .x = {0, 1, 2, 3, 4}, .y = {1, 9, 2, NAN, 4}};
  const Series smooth = smoothed(series, 3);
  EXPECT_EQ(smooth.y, (std::vector<double>{5, 2, 5.5, 3, 4}));
  EXPECT_EQ(smooth.x, series.x);
}

TEST(PrecisionRecall, NamesTenCurves) {
  std::vector<PrecisionRecallCurve> curves;
  for (int i = 0; i < 12; ++i)
    curves.push_back({"class" + std::to_string(i), {0, 0.5, 1}, {1, 0.75, 0.5}, 0.75});
  curves[1].average_precision = NAN;
  const std::string svg = precision_recall_svg("PR", curves);
  expect_clean(svg);
  EXPECT_EQ(count(svg, "<polyline"), 12);
  EXPECT_THAT(svg, HasSubstr(">0.750  class0<"));
  EXPECT_THAT(svg, HasSubstr(">-  class1<"));
  EXPECT_THAT(svg, HasSubstr(">0.750  class9<"));
  EXPECT_THAT(svg, Not(HasSubstr("class10")));
}

TEST(Confusion, SmallMatrixShowsCountsAndShares) {
  const std::string svg = confusion_svg({.title = "C",
                                         .truths = {"cat", "<dog>", "none"},
                                         .predictions = {"cat", "<dog>"},
                                         .counts = {30, 10, 0, 12345, 0, 0}});
  expect_clean(svg);
  EXPECT_THAT(svg, HasSubstr(">30<"));
  EXPECT_THAT(svg, HasSubstr(">75%<"));
  EXPECT_THAT(svg, HasSubstr(">25%<"));
  EXPECT_THAT(svg, HasSubstr(">12k<"));
  EXPECT_EQ(count(svg, "&lt;dog&gt;"), 2);
  EXPECT_THAT(svg, Not(HasSubstr(">0<")));
}

TEST(Confusion, LargeMatricesDropWhatWouldNotFit) {
  for (const std::size_t size : {30u, 80u, 300u}) {
    ConfusionMatrix matrix;
    for (std::size_t i = 0; i < size; ++i) matrix.truths.push_back("n" + std::to_string(i));
    matrix.predictions = matrix.truths;
    matrix.counts.assign(size * size, 0);
    for (std::size_t i = 0; i < size; ++i) matrix.counts[i * size + i] = 777;
    const std::string svg = confusion_svg(matrix);
    expect_clean(svg);
    EXPECT_EQ(count(svg, ">777<"), size <= 40 ? 30 : 0);
    EXPECT_EQ(count(svg, ">n5<"), size <= 100 ? 2 : 0);
    EXPECT_LT(svg.size(), 400'000u) << "empty cells are not drawn";
  }
}

TEST(Confusion, EmptyAndWrongSizes) {
  expect_clean(confusion_svg({}));
  EXPECT_THROW(confusion_svg({.title = "", .truths = {"a"}, .predictions = {"a"}, .counts = {}}),
               comm::Error);
}

TEST(RunCurves, AWideFallIsDrawnOnALogAxis) {
  const ScratchFolder folder;
  MetricsFile metrics(folder.path() / "metrics.jsonl");
  StepReport step;
  for (const double first : {1.5, 1000.0}) {
    metrics.cut_back(0);
    for (step.step = 1; step.step <= 4; ++step.step) {
      step.loss = step.step == 1 ? first : 1;
      metrics.training(step);
    }
    draw_run_curves(metrics.file().path(), folder.path());
    const std::string svg = file_text(folder.path() / "loss.svg");
    EXPECT_EQ(svg.find(">10³<") != svg.npos, first == 1000);
  }
}

TEST(RunCurves, EveryGroupOfParametersIsACurve) {
  const ScratchFolder folder;
  MetricsFile metrics(folder.path() / "metrics.jsonl");
  StepReport step;
  for (step.step = 1; step.step <= 4; ++step.step) {
    step.extra = {{"weight_norm/decay", 2}, {"weight_norm/rule 1", 3}, {"sparsity/decay", 0.5}};
    metrics.training(step);
  }
  draw_run_curves(metrics.file().path(), folder.path());
  const std::string norms = file_text(folder.path() / "weight_norm.svg");
  expect_clean(norms);
  EXPECT_THAT(norms, AllOf(HasSubstr(">decay<"), HasSubstr(">rule 1<")));
  EXPECT_EQ(count(norms, "<polyline"), 2);
  EXPECT_THAT(file_text(folder.path() / "sparsity.svg"), Not(HasSubstr(">rule 1<")));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "update_ratio.svg"));
}

TEST(RunCurves, DrawsWhatTheRunHas) {
  const ScratchFolder folder;
  const auto metrics_path = folder.path() / "metrics.jsonl";
  draw_run_curves(metrics_path, folder.path() / "pictures");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "pictures")) << "nothing to draw";
  MetricsFile metrics(metrics_path);
  StepReport step;
  for (step.step = 1; step.step <= 100; ++step.step) {
    step.loss = 1.0 / static_cast<double>(step.step);
    step.losses = {{"loss_classification", step.loss / 2}};
    metrics.training(step);
  }
  draw_run_curves(metrics_path, folder.path() / "pictures");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "pictures/metrics.svg"));
  const std::string loss = file_text(folder.path() / "pictures/loss.svg");
  expect_clean(loss);
  EXPECT_THAT(loss, HasSubstr(">loss_classification<"));
  EXPECT_EQ(count(loss, "<polyline"), 4) << "raw and smoothed";
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "pictures/lr.svg"));
  metrics.evaluation(50, "val",
                     std::vector<NamedValue>{{"bbox/AP", 0.5}, {"bbox/per_class/cat", 0.5}});
  draw_run_curves(metrics_path, folder.path() / "pictures");
  const std::string evaluation = file_text(folder.path() / "pictures/metrics.svg");
  expect_clean(evaluation);
  EXPECT_THAT(evaluation, Not(HasSubstr("per_class")));
}

}  // namespace
}  // namespace trainer
