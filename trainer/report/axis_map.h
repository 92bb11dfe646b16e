#pragma once

#include <span>
#include <string>
#include <vector>

#include "trainer/report/chart.h"

namespace trainer {

struct Tick {
  double value;
  std::string label;  // empty: a minor tick
};

// Values of a chart's axis to pixels, and the marks upon it.
class AxisMap {
 public:
  // Ends not given by `axis` come from the usable ones of `values`, widened by the part `margin` of
  // their range; a linear axis that nearly reaches zero from above starts at zero.
  AxisMap(const Axis& axis, std::span<const double> values, double margin);

  void place(double pixel_low, double pixel_high);
  double pixel(double value) const;
  bool usable(double value) const;  // finite, and positive on a log axis
  double low() const { return low_; }
  double high() const { return high_; }
  // Round values within the ends; never empty.
  std::vector<Tick> ticks() const;

 private:
  double position(double value) const;  // 0..1
  std::vector<Tick> linear_ticks() const;
  std::vector<Tick> log_ticks() const;

  Scale scale_;
  double low_, high_;
  double pixel_low_ = 0, pixel_high_ = 1;
};

// Labels of equally spaced values `step` apart: "0.25", "20,000", "3e-5", "1.5M".
std::string format_tick(double value, double step);

}  // namespace trainer
