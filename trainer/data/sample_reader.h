#pragma once

#include <cstdint>
#include <vector>

#include "trainer/data/augment.h"
#include "trainer/data/batch.h"
#include "trainer/data/dataset.h"
#include "trainer/data/letterbox.h"

namespace trainer {

struct ReaderOptions {
  Fields fields;
  std::uint64_t seed = 0;
  bool augment = false;
};

// Makes one sample into one image of a batch. Thread-safe; what it writes is a pure function of
// (data, config, seed, draw).
class SampleReader {
 public:
  // `dataset` and `config` outlive the reader.
  SampleReader(const Dataset& dataset, const DataConfig& config, const ReaderOptions& options);

  // Fills image n of the batch, whose bucket is set. Errors: SampleError for what on_error governs.
  void read(const Draw& draw, Batch& batch, int n) const;

  // Everything `read` could stop at, at full size and without augmentation. The label map, empty
  // without fields.label_map. Errors: as `read`.
  LabelImage check(std::int64_t sample) const;

  const std::vector<Size>& buckets() const { return buckets_; }

 private:
  Geometry geometry(std::int64_t sample, const Augmentation& augmentation, Size original,
                    Size network) const;
  void write_boxes(const Sample& sample, const Geometry& geometry, Batch& batch, int n) const;
  LabelImage checked_label_map(std::int64_t sample, const ImageInfo& info) const;

  const Dataset& dataset_;
  const DataConfig& config_;
  ReaderOptions options_;
  std::vector<Size> buckets_;
  LetterboxOptions letterbox_;
};

}  // namespace trainer
