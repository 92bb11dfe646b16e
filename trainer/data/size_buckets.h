#pragma once

#include <vector>

#include "trainer/data/dataset.h"

namespace trainer {

// data.size as buckets, in the order of the config.
std::vector<Size> size_buckets(const DataConfig& config);

// The bucket with the least padding for an image of this size when it is fitted into it, as a share
// of the bucket; of equals the one that rescales least, then the first.
int least_padding_bucket(const std::vector<Size>& buckets, Size image);

// The bucket of every sample; empty with a single bucket. Where the annotations give no size the
// file's header is read; an image that can't be read gets bucket 0.
std::vector<int> assign_buckets(const Dataset& dataset, const std::vector<Size>& buckets);

}  // namespace trainer
