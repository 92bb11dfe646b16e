#include "trainer/eval/segmentation_eval.h"

#include <cmath>
#include <stdexcept>

namespace trainer {
namespace {

double ratio(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? kUndefined : static_cast<double>(part) / static_cast<double>(whole);
}

double mean_of_defined(const std::vector<double>& values) {
  double sum = 0;
  int num = 0;
  for (const double value : values) {
    if (std::isnan(value)) continue;
    sum += value;
    ++num;
  }
  return num == 0 ? kUndefined : sum / num;
}

}  // namespace

SegmentationConfusion::SegmentationConfusion(int num_classes, int ignore)
    : num_classes_(num_classes), ignore_(ignore) {
  if (num_classes < 1) throw std::invalid_argument("no classes");
  counts_.resize(static_cast<std::size_t>(num_classes) * num_classes + 1);
}

std::int64_t SegmentationConfusion::add(std::span<const std::uint16_t> labels,
                                        std::span<const std::uint16_t> predictions) {
  if (labels.size() != predictions.size()) throw std::invalid_argument("sizes differ");
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == ignore_) continue;
    if (labels[i] >= num_classes_ || predictions[i] >= num_classes_) {
      return static_cast<std::int64_t>(i);
    }
  }
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == ignore_) {
      counts_.back() += 1;
    } else {
      counts_[static_cast<std::size_t>(labels[i]) * num_classes_ + predictions[i]] += 1;
    }
  }
  return -1;
}

void SegmentationConfusion::merge(std::span<const std::int64_t> counts) {
  if (counts.size() != counts_.size()) throw std::invalid_argument("another number of classes");
  for (std::size_t i = 0; i < counts.size(); ++i) counts_[i] += counts[i];
}

std::int64_t SegmentationConfusion::row_sum(int i) const {
  std::int64_t sum = 0;
  for (int j = 0; j < num_classes_; ++j) sum += at(i, j);
  return sum;
}

std::int64_t SegmentationConfusion::column_sum(int i) const {
  std::int64_t sum = 0;
  for (int j = 0; j < num_classes_; ++j) sum += at(j, i);
  return sum;
}

double SegmentationConfusion::pixel_accuracy() const {
  std::int64_t right = 0, all = 0;
  for (int i = 0; i < num_classes_; ++i) {
    right += at(i, i);
    all += row_sum(i);
  }
  return ratio(right, all);
}

double SegmentationConfusion::mean_accuracy() const {
  std::vector<double> accuracies;
  for (int i = 0; i < num_classes_; ++i) accuracies.push_back(ratio(at(i, i), row_sum(i)));
  return mean_of_defined(accuracies);
}

std::vector<double> SegmentationConfusion::iou() const {
  std::vector<double> ious;
  for (int i = 0; i < num_classes_; ++i) {
    ious.push_back(ratio(at(i, i), row_sum(i) + column_sum(i) - at(i, i)));
  }
  return ious;
}

double SegmentationConfusion::mean_iou() const { return mean_of_defined(iou()); }

double SegmentationConfusion::fw_iou() const {
  const std::vector<double> ious = iou();
  double weighted = 0;
  std::int64_t all = 0;
  for (int i = 0; i < num_classes_; ++i) {
    const std::int64_t weight = row_sum(i);
    all += weight;
    if (weight > 0) weighted += static_cast<double>(weight) * ious[static_cast<std::size_t>(i)];
  }
  return all == 0 ? kUndefined : weighted / static_cast<double>(all);
}

MetricGroup SegmentationConfusion::metrics(std::span<const std::string> names) const {
  if (static_cast<int>(names.size()) != num_classes_) {
    throw std::invalid_argument(std::to_string(names.size()) + " names for " +
                                std::to_string(num_classes_) + " classes");
  }
  MetricGroup group{"semantic",
                    {{"mIoU", mean_iou()},
                     {"pixel_accuracy", pixel_accuracy()},
                     {"mean_accuracy", mean_accuracy()},
                     {"fw_IoU", fw_iou()}},
                    {}};
  const std::vector<double> ious = iou();
  for (std::size_t c = 0; c < names.size(); ++c) group.per_class.emplace_back(names[c], ious[c]);
  return group;
}

}  // namespace trainer
