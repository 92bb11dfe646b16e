#pragma once

#include <memory>
#include <utility>

#include "comm/error.h"
#include "trainer/data/dataset.h"

namespace trainer::testing {

// A data set with one sample that cannot be read.
class DamagedDataset final : public Dataset {
 public:
  DamagedDataset(std::unique_ptr<Dataset> whole, std::int64_t damaged)
      : Dataset(*whole), whole_(std::move(whole)), damaged_(damaged) {}
  std::int64_t size() const override { return whole_->size(); }
  const Sample& sample(std::int64_t index) const override { return whole_->sample(index); }
  ShrunkImage image(std::int64_t index, const NeededSize& needed) const override {
    if (index == damaged_) comm::fail(comm::ExitCode::kData, "sample {} is damaged", index);
    return whole_->image(index, needed);
  }
  CocoAnnotations ground_truth() const override { return whole_->ground_truth(); }

 private:
  std::unique_ptr<Dataset> whole_;
  std::int64_t damaged_;
};

// A data set whose samples 1 and 4 data.on_error governs.
class UnreadableDataset final : public Dataset {
 public:
  explicit UnreadableDataset(std::unique_ptr<Dataset> whole)
      : Dataset(*whole), whole_(std::move(whole)) {}
  std::int64_t size() const override { return whole_->size(); }
  const Sample& sample(std::int64_t index) const override { return whole_->sample(index); }
  ShrunkImage image(std::int64_t index, const NeededSize& needed) const override {
    if (index == 1) throw SampleError(AnomalyKind::kUndecodable, "sample 1 is damaged");
    if (index == 4) throw SampleError(AnomalyKind::kUndecodable, "sample 4 is damaged");
    return whole_->image(index, needed);
  }
  CocoAnnotations ground_truth() const override { return whole_->ground_truth(); }

 protected:
  LabelImage decode_label_map(std::int64_t index) const override {
    return whole_->label_map(index);
  }

 private:
  std::unique_ptr<Dataset> whole_;
};

}  // namespace trainer::testing
