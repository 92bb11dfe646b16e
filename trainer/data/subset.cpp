#include "trainer/data/subset.h"

#include <algorithm>
#include <set>
#include <utility>

#include "comm/error.h"
#include "trainer/data/dataset_files.h"

namespace trainer {

SubsetDataset::SubsetDataset(std::shared_ptr<const Dataset> whole,
                             std::vector<std::int64_t> samples)
    : whole_(std::move(whole)), samples_(std::move(samples)) {
  Fingerprint hash;
  hash.add(static_cast<std::int64_t>(whole_->fingerprint()));
  for (const std::int64_t sample : samples_) {
    REQUIRE(sample >= 0 && sample < whole_->size(), "sample {} of {}", sample, whole_->size());
    hash.add(sample);
  }
  fingerprint_ = hash.value();
  class_names_ = whole_->class_names();
  for (std::size_t k = 0; k < class_names_.size(); ++k) {
    class_labels_.push_back(whole_->class_label(k));
    category_ids_.push_back(whole_->category_id(class_labels_.back()));
  }
  num_classes_ = whole_->num_classes();
  has_background_ = whole_->has_background();
  ignore_ = whole_->ignore();
  anomalies_ = whole_->anomalies();
  source_ = whole_->source();
}

const Sample& SubsetDataset::sample(std::int64_t index) const {
  return whole_->sample(original(index));
}

ShrunkImage SubsetDataset::image(std::int64_t index, const NeededSize& needed) const {
  return whole_->image(original(index), needed);
}

LabelImage SubsetDataset::decode_label_map(std::int64_t index) const {
  return whole_->label_map(original(index));
}

CocoAnnotations SubsetDataset::ground_truth() const { return ground_truth_of(*whole_, samples_); }

CocoAnnotations ground_truth_of(const Dataset& dataset, std::span<const std::int64_t> samples) {
  std::set<std::int64_t> ids;
  for (const std::int64_t sample : samples) ids.insert(dataset.sample(sample).image_id);
  CocoAnnotations result = dataset.ground_truth();
  std::erase_if(result.images, [&](const CocoImage& image) { return !ids.contains(image.id); });
  std::erase_if(result.annotations, [&](const CocoAnnotation& annotation) {
    return !ids.contains(annotation.image_id);
  });
  return result;
}

std::vector<std::int64_t> spread_indices(std::int64_t size, std::int64_t count) {
  count = std::min(count, size);
  std::vector<std::int64_t> indices;
  for (std::int64_t i = 0; i < count; ++i) indices.push_back(i * size / count);
  return indices;
}

}  // namespace trainer
