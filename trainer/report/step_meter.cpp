#include "trainer/report/step_meter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string_view>

#include "comm/error.h"

namespace trainer {

namespace {

constexpr int kMostCells = 30, kFewestCells = 5;

// "loss_bbox_regression" within the parentheses behind "loss".
std::string_view short_name(std::string_view name) {
  constexpr std::string_view kPrefix = "loss_";
  return name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : name;
}

std::string format_number(double value) {
  return std::isnan(value) ? std::string("-") : fmt::format("{:.4g}", value);
}

}  // namespace

void MedianWindow::add(double value) {
  if (!std::isfinite(value)) return;
  values_[next_] = value;
  next_ = (next_ + 1) % kWindow;
  num_values_ = std::min(num_values_ + 1, kWindow);
}

double MedianWindow::median() const {
  if (num_values_ == 0) return kUndefined;
  std::array<double, kWindow> sorted = values_;
  std::sort(sorted.begin(), sorted.begin() + num_values_);
  return (sorted[(num_values_ - 1) / 2] + sorted[num_values_ / 2]) / 2;
}

StepMeter::StepMeter(std::int64_t total_steps, int batch)
    : total_steps_(total_steps), batch_(batch) {
  REQUIRE(total_steps > 0 && batch > 0, "total_steps {}, batch {}", total_steps, batch);
}

void StepMeter::observe(StepReport& report) {
  loss_.add(report.loss);
  data_.add(report.seconds.data);
  compute_.add(report.seconds.compute);
  communication_.add(report.seconds.communication);
  update_.add(report.seconds.update);
  total_.add(report.seconds.total);
  observe_parts(report.losses);
  const double seconds = total_.median();
  report.images_per_second = seconds > 0 ? batch_ / seconds : kUndefined;
  report.eta_seconds =
      seconds * static_cast<double>(std::max<std::int64_t>(total_steps_ - report.step, 0));
  last_.step = report.step;
  last_.epoch = report.epoch;
  last_.lr = report.lr;
  last_.memory_bytes = report.memory_bytes;
  last_.images_per_second = report.images_per_second;
  last_.eta_seconds = report.eta_seconds;
}

void StepMeter::observe_parts(std::span<const NamedValue> losses) {
  const auto same_name = [](const Part& part, const NamedValue& loss) {
    return part.name == loss.name;
  };
  if (!std::equal(parts_.begin(), parts_.end(), losses.begin(), losses.end(), same_name)) {
    parts_.clear();
    for (const NamedValue& loss : losses) parts_.push_back({loss.name, {}});
  }
  for (std::size_t i = 0; i < losses.size(); ++i) parts_[i].window.add(losses[i].value);
}

std::string StepMeter::time_split() const {
  const double total = total_.median();
  if (!(total > 0)) return "";
  const auto percent = [&](const MedianWindow& window) {
    return std::isnan(window.median()) ? 0.0 : 100 * window.median() / total;
  };
  return fmt::format(" (data {:.0f}%, compute {:.0f}%, communication {:.0f}%, update {:.0f}%)",
                     percent(data_), percent(compute_), percent(communication_), percent(update_));
}

std::string StepMeter::line() const {
  REQUIRE(last_.step > 0, "no step was observed");
  std::string text = fmt::format("step {}/{}  epoch {:.2f}  loss {}", last_.step, total_steps_,
                                 last_.epoch, format_number(loss_.median()));
  std::string_view separator = " (";
  for (const Part& part : parts_) {
    fmt::format_to(std::back_inserter(text), "{}{} {}", separator, short_name(part.name),
                   format_number(part.window.median()));
    separator = ", ";
  }
  if (!parts_.empty()) text += ')';
  fmt::format_to(std::back_inserter(text), "  lr {:.5g}  {} images/s  {} s{}  {}  eta {}", last_.lr,
                 format_number(last_.images_per_second), format_number(total_.median()),
                 time_split(), format_bytes(last_.memory_bytes),
                 format_duration(last_.eta_seconds));
  return text;
}

std::string StepMeter::bar(int columns) const {
  REQUIRE(last_.step > 0, "no step was observed");
  const std::int64_t done = std::min(last_.step, total_steps_);
  std::string text =
      fmt::format("{}%  step {}/{}  loss {}  {} images/s  eta {}", done * 100 / total_steps_,
                  last_.step, total_steps_, format_number(loss_.median()),
                  format_number(last_.images_per_second), format_duration(last_.eta_seconds));
  const int num_cells = std::min(columns - static_cast<int>(text.size()) - 3, kMostCells);
  if (num_cells >= kFewestCells) {
    const auto num_filled = static_cast<std::size_t>(done * num_cells / total_steps_);
    text = fmt::format("[{}{}] {}", std::string(num_filled, '#'),
                       std::string(static_cast<std::size_t>(num_cells) - num_filled, '-'), text);
  }
  text.resize(std::min(text.size(), static_cast<std::size_t>(std::max(columns, 0))));
  return text;
}

std::string format_duration(double seconds) {
  constexpr double kLongest = 1e10;  // three centuries: not a duration any more
  if (!(seconds >= 0 && seconds < kLongest)) return "-";
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  const std::int64_t days = whole / 86400;
  const std::string clock =
      fmt::format("{}:{:02}:{:02}", whole / 3600 % 24, whole / 60 % 60, whole % 60);
  return days == 0 ? clock : fmt::format("{} d {}", days, clock);
}

std::string format_bytes(std::int64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  // 999.5 and above would take four digits.
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, decimals, kUnits[unit]);
}

}  // namespace trainer
