#pragma once

#include <string>
#include <vector>

#include "trainer/data/dataset.h"

namespace trainer {

// Image files as a data set without annotations, so that prediction reads and letter-boxes them by
// the same code as evaluation does.
class ImageList final : public Dataset {
 public:
  // Errors: kInputMissing naming a file that is not there.
  ImageList(const std::vector<std::string>& files, int channels);

  std::int64_t size() const override { return static_cast<std::int64_t>(samples_.size()); }
  const Sample& sample(std::int64_t index) const override {
    return samples_.at(static_cast<std::size_t>(index));
  }
  CocoAnnotations ground_truth() const override { return {}; }
  int channels() const override { return channels_; }

 private:
  int channels_;
  std::vector<Sample> samples_;
};

}  // namespace trainer
