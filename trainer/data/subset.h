#pragma once

#include <memory>
#include <span>
#include <vector>

#include "trainer/data/dataset.h"

namespace trainer {

// Some samples of another data set, renumbered from 0 in the order given: a fold, or a part to
// measure the training error on. Classes and numbering are those of the whole.
class SubsetDataset final : public Dataset {
 public:
  // REQUIRES: indices of `whole`, each at most once.
  SubsetDataset(std::shared_ptr<const Dataset> whole, std::vector<std::int64_t> samples);

  std::int64_t size() const override { return static_cast<std::int64_t>(samples_.size()); }
  const Sample& sample(std::int64_t index) const override;
  ShrunkImage image(std::int64_t index, const NeededSize& needed) const override;
  CocoAnnotations ground_truth() const override;
  int channels() const override { return whole_->channels(); }

 protected:
  LabelImage decode_label_map(std::int64_t index) const override;

 private:
  std::int64_t original(std::int64_t index) const {
    return samples_.at(static_cast<std::size_t>(index));
  }

  std::shared_ptr<const Dataset> whole_;
  std::vector<std::int64_t> samples_;
};

// What the evaluator compares with when it has seen these samples alone.
CocoAnnotations ground_truth_of(const Dataset& dataset, std::span<const std::int64_t> samples);

// At most `count` indices, spread evenly over 0 .. size - 1.
std::vector<std::int64_t> spread_indices(std::int64_t size, std::int64_t count);

}  // namespace trainer
