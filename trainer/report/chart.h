#pragma once

#include <optional>
#include <string>
#include <vector>

namespace trainer {

enum class Scale { kLinear, kLog };

struct Axis {
  std::string label;
  Scale scale = Scale::kLinear;
  std::optional<double> low, high;  // ends; from the data where absent
};

enum class SeriesStyle { kLine, kFaint, kPoints };  // kFaint: thin and pale, without legend

// Colours of a series beside the palette's indices.
inline constexpr int kColorByPosition = -1;
inline constexpr int kGray = -2;

// One curve. A value that is undefined, or not positive on a log axis, is a gap in the line.
struct Series {
  std::string name;
  std::vector<double> x, y;
  std::vector<double> error;  // empty, or the half length of the error bar at each point
  SeriesStyle style = SeriesStyle::kLine;  // kPoints: line with a marker at each point
  int color = kColorByPosition;            // index into the palette, or one of the above
};

// A labelled vertical line ("best", "one standard error").
struct Mark {
  double x;
  std::string label;
};

struct Chart {
  std::string title;
  Axis x, y;
  std::vector<Series> series;
  std::vector<Mark> marks;
};

// A self-contained SVG document: white ground, no scripts, text escaped, Okabe-Ito palette with
// dashes from the eighth series on. Long series are thinned to the pixels' resolution, extremes
// kept. REQUIRES: x, y (and error) of a series have one length. Nothing to show is said in the
// picture.
std::string chart_svg(const Chart& chart);

// Running median over a centred window, for a line above its own faint raw values.
Series smoothed(const Series& series, int window);

struct PrecisionRecallCurve {
  std::string name;
  std::vector<double> recall, precision;
  double average_precision;  // shown in the legend; undefined: "-"
};

// Precision over recall, both 0..1. More than ten curves: the rest are faint and unnamed.
std::string precision_recall_svg(const std::string& title,
                                 const std::vector<PrecisionRecallCurve>& curves);

// Counts of (truth, prediction). Colour is the share of the truth's row.
struct ConfusionMatrix {
  std::string title;
  std::vector<std::string> truths;       // names of the rows
  std::vector<std::string> predictions;  // names of the columns
  std::vector<double> counts;            // truths.size() x predictions.size(), row-major
};

// Counts are printed in the cells up to 40 classes, shares of the row too up to 12.
std::string confusion_svg(const ConfusionMatrix& matrix);

}  // namespace trainer
