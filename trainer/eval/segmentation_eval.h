#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trainer/eval/metrics.h"

namespace trainer {

// Confusion of label maps. Counts are integers, so that sums over images or ranks are the same bits
// in any order. With n_ij = pixels of class i predicted as j, t_i = sum_j n_ij (Long et al., CVPR
// 2015, section 5):
//   pixel accuracy  sum_i n_ii / sum_i t_i
//   mean accuracy   mean_i n_ii / t_i                         over classes with t_i > 0
//   IoU_i           n_ii / (t_i + sum_j n_ji - n_ii)          undefined (NaN) if that is 0 / 0
//   mIoU            mean_i IoU_i                              over classes where it is defined
//   fw IoU          sum_i t_i IoU_i / sum_i t_i
class SegmentationConfusion {
 public:
  // `ignore`: label value that isn't scored; a negative one: none.
  SegmentationConfusion(int num_classes, int ignore);

  // Same length both. Returns the index of the first pixel with a label >= num_classes (but for
  // `ignore`) or a prediction >= num_classes; -1 if all was well. Nothing is added otherwise.
  // A prediction under an ignored label is not looked at.
  std::int64_t add(std::span<const std::uint16_t> labels,
                   std::span<const std::uint16_t> predictions);

  // Adds the counts of another one with as many classes, or of `counts()` from another rank.
  void merge(std::span<const std::int64_t> counts);

  int num_classes() const { return num_classes_; }
  std::int64_t at(int truth, int predicted) const {
    return counts_[static_cast<std::size_t>(truth) * num_classes_ + predicted];
  }
  // (num_classes, num_classes) row-major, row = truth; then one element: ignored pixels.
  std::span<const std::int64_t> counts() const { return counts_; }
  std::int64_t num_ignored() const { return counts_.back(); }

  double pixel_accuracy() const;
  double mean_accuracy() const;
  double mean_iou() const;
  double fw_iou() const;
  std::vector<double> iou() const;  // a class

  // The block "semantic" of metrics.json. `names`: one a class.
  MetricGroup metrics(std::span<const std::string> names) const;

 private:
  std::int64_t row_sum(int i) const;
  std::int64_t column_sum(int i) const;

  int num_classes_;
  int ignore_;
  std::vector<std::int64_t> counts_;
};

}  // namespace trainer
