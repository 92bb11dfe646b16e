#pragma once

#include <utility>
#include <vector>

#include "trainer/data/dataset_files.h"
#include "trainer/data/formats.h"

// A data set that is a list of samples without boxes. Internal to trainer/data.
namespace trainer {

class StoredDataset : public Dataset {
 public:
  std::int64_t size() const override { return static_cast<std::int64_t>(samples_.size()); }
  const Sample& sample(std::int64_t index) const override {
    return samples_.at(static_cast<std::size_t>(index));
  }
  CocoAnnotations ground_truth() const override {
    CocoAnnotations result;
    for (const Sample& sample : samples_)
      result.images.push_back({sample.image_id, sample.name, sample.width, sample.height});
    for (std::size_t k = 0; k < class_names_.size(); ++k)
      result.categories.push_back({category_ids_[k], class_names_[k]});
    return result;
  }

 protected:
  // image_id: the position, from 1.
  void add_sample(Sample sample) {
    sample.image_id = size() + 1;
    samples_.push_back(std::move(sample));
  }
  void set_fingerprint() {
    Fingerprint hash;
    for (const std::string& name : class_names_) hash.add(name);
    for (const Sample& sample : samples_) hash.add(sample);
    fingerprint_ = hash.value();
  }

  std::vector<Sample> samples_;
};

}  // namespace trainer
