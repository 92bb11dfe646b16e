#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trainer/report/step_report.h"

namespace trainer {

// Median of the last kWindow values; undefined values are left out.
class MedianWindow {
 public:
  static constexpr int kWindow = 20;
  void add(double value);
  double median()
      const;  // NaN before the first value; mean of the middle two if their count is even

 private:
  std::array<double, kWindow> values_{};
  int num_values_ = 0;
  int next_ = 0;
};

// Smooths what the console shows. `observe` allocates only when the names of the losses change.
class StepMeter {
 public:
  // REQUIRES: both positive. `batch` is the global one.
  StepMeter(std::int64_t total_steps, int batch);

  // Takes one step in and fills in its images_per_second and eta_seconds, from the median of the
  // last steps' total seconds.
  void observe(StepReport& report);

  // "step 120/3338  epoch 0.93  loss 0.4911 (classification 0.31, bbox_regression 0.18)  lr 0.01
  //  10.2 images/s  1.57 s (data 1%, compute 80%, communication 12%, update 7%)  1.39 GiB
  //  eta 0:12:34", one line. REQUIRES: a step was observed.
  std::string line() const;
  // "[#######-------] 52% step 120/230  loss 0.4911  10.2 images/s  eta 0:12:34", at most
  // `columns` wide; the bar shrinks first.
  std::string bar(int columns) const;

 private:
  struct Part {
    std::string name;
    MedianWindow window;
  };
  void observe_parts(std::span<const NamedValue> losses);
  std::string time_split() const;

  std::int64_t total_steps_;
  int batch_;
  MedianWindow loss_, data_, compute_, communication_, update_, total_;
  std::vector<Part> parts_;
  StepReport last_;  // its vectors are not kept
};

// "0:12:34", "2 d 3:04:05"; "-" if undefined.
std::string format_duration(double seconds);
// "1.39 GiB", three significant digits.
std::string format_bytes(std::int64_t bytes);

}  // namespace trainer
