#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "trainer/eval/metrics.h"

namespace trainer {

// Accuracy and mean loss over samples. Losses are summed as integers in units of 2^-32, so that the
// sums are the same bits in any order and on any number of ranks; the rounding is 1.2e-10 a sample.
class ClassificationSums {
 public:
  // A loss that isn't finite, or is beyond 1e6, makes the mean undefined.
  void add(bool correct, double loss) {
    counts_[0] += 1;
    counts_[1] += correct ? 1 : 0;
    if (std::abs(loss) <= kMaxLoss) {
      counts_[2] += std::llround(loss * kUnit);
    } else {
      counts_[3] += 1;
    }
  }

  // What ranks add up: samples, correct ones, loss in units, undefined losses.
  using Counts = std::array<std::int64_t, 4>;
  const Counts& counts() const { return counts_; }
  void merge(const Counts& other) {
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other[i];
  }

  std::int64_t num_samples() const { return counts_[0]; }
  double accuracy() const {
    return counts_[0] == 0 ? kUndefined : static_cast<double>(counts_[1]) / counts_[0];
  }
  double loss() const {
    if (counts_[0] == 0 || counts_[3] > 0) return kUndefined;
    return static_cast<double>(counts_[2]) / kUnit / counts_[0];
  }

  // The block "classification" of metrics.json.
  MetricGroup metrics() const {
    return {"classification", {{"accuracy", accuracy()}, {"loss", loss()}}, {}};
  }

 private:
  static constexpr double kUnit = 4294967296.0;
  static constexpr double kMaxLoss = 1e6;
  Counts counts_{};
};

}  // namespace trainer
