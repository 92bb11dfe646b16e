#include "trainer/report/axis_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "trainer/report/text_table.h"

namespace trainer {

namespace {

constexpr int kMostTicks = 7;

// The smallest of 1, 2, 5 times a power of ten that cuts `range` into at most kMostTicks parts.
double round_step(double range) {
  const double least = range / kMostTicks;
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= least * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

// "10" with the exponent raised.
std::string power_of_ten(int exponent) {
  constexpr std::array<const char*, 10> kRaised = {"⁰", "¹", "²", "³", "⁴",
                                                   "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text = "10";
  for (const char c : fmt::format("{}", exponent))
    text += c == '-' ? "⁻" : kRaised[static_cast<std::size_t>(c - '0')];
  return text;
}

}  // namespace

std::string format_tick(double value, double step) {
  const double size = std::max(std::abs(value), std::abs(step));
  if (std::abs(value) < step * 1e-6) return "0";
  if (size >= 1e15 || size < 1e-3) {
    std::string text = fmt::format("{:.3g}", value);
    const std::size_t e = text.find('e');
    if (e == text.npos) return text;
    return text.substr(0, e + 1) + fmt::format("{}", std::stoi(text.substr(e + 1)));
  }
  if (size >= 1e6) return fmt::format("{:g}M", std::round(value / step) * step / 1e6);
  if (step >= 1) return format_count(std::llround(value));
  const int decimals = static_cast<int>(std::ceil(-std::log10(step) - 1e-9));
  return fmt::format("{:.{}f}", value, decimals);
}

AxisMap::AxisMap(const Axis& axis, std::span<const double> values, double margin)
    : scale_(axis.scale) {
  low_ = std::numeric_limits<double>::infinity();
  high_ = -low_;
  for (const double value : values)
    if (usable(value)) {
      low_ = std::min(low_, value);
      high_ = std::max(high_, value);
    }
  const bool log = scale_ == Scale::kLog;
  if (low_ > high_) low_ = log ? 0.1 : 0, high_ = 1;
  if (log) {
    if (low_ == high_) low_ /= 3, high_ *= 3;
    const double widened = std::pow(high_ / low_, margin);
    low_ /= widened;
    high_ *= widened;
  } else {
    constexpr double kNearZero = 0.3;
    if (low_ == high_) {
      const double half = low_ == 0 ? 1 : std::abs(low_) / 2;
      low_ -= half, high_ += half;
    }
    const double range = high_ - low_;
    const bool from_zero = margin > 0 && low_ >= 0 && low_ < kNearZero * high_;
    low_ = from_zero ? 0 : low_ - margin * range;
    high_ += margin * range;
  }
  if (axis.low && usable(*axis.low)) low_ = *axis.low;
  if (axis.high && usable(*axis.high)) high_ = *axis.high;
  if (!(low_ < high_)) high_ = log ? low_ * 10 : low_ + 1;
}

void AxisMap::place(double pixel_low, double pixel_high) {
  pixel_low_ = pixel_low;
  pixel_high_ = pixel_high;
}

bool AxisMap::usable(double value) const {
  return std::isfinite(value) && (scale_ == Scale::kLinear || value > 0);
}

double AxisMap::position(double value) const {
  if (scale_ == Scale::kLinear) return (value - low_) / (high_ - low_);
  return std::log(value / low_) / std::log(high_ / low_);
}

double AxisMap::pixel(double value) const {
  const double part = std::clamp(position(value), -1.0, 2.0);
  return pixel_low_ + part * (pixel_high_ - pixel_low_);
}

std::vector<Tick> AxisMap::ticks() const {
  if (scale_ == Scale::kLinear) return linear_ticks();
  std::vector<Tick> ticks = log_ticks();
  const auto labelled = [](const Tick& tick) { return !tick.label.empty(); };
  return std::count_if(ticks.begin(), ticks.end(), labelled) >= 2 ? ticks : linear_ticks();
}

std::vector<Tick> AxisMap::linear_ticks() const {
  std::vector<Tick> ticks;
  const double step = round_step(high_ - low_);
  const double slack = step * 1e-6;
  for (double i = std::ceil((low_ - slack) / step); i * step <= high_ + slack; ++i)
    ticks.push_back({i * step, format_tick(i * step, step)});
  return ticks;
}

std::vector<Tick> AxisMap::log_ticks() const {
  const double num_decades = std::log10(high_ / low_);
  const int stride = static_cast<int>(std::ceil(num_decades / kMostTicks));
  std::vector<Tick> ticks;
  for (int decade = static_cast<int>(std::floor(std::log10(low_)));
       decade <= std::ceil(std::log10(high_)); ++decade) {
    const double power = std::pow(10, decade);
    for (int digit = 1; digit < 10; ++digit) {
      const double value = digit * power;
      if (value < low_ * (1 - 1e-9) || value > high_ * (1 + 1e-9)) continue;
      if (num_decades < 2) {
        const bool labelled = digit == 1 || digit == 2 || digit == 5;
        ticks.push_back({value, labelled ? format_tick(value, power) : ""});
      } else if (digit == 1) {
        ticks.push_back({value, decade % stride == 0 ? power_of_ten(decade) : ""});
      } else if (stride == 1) {
        ticks.push_back({value, ""});
      }
    }
  }
  return ticks;
}

}  // namespace trainer
