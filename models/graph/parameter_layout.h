#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "models/graph/parameter.h"

namespace models {

// Elements in a block: tensors start at, and buckets consist of, whole blocks, so that sums over
// blocks are the same bits for any number of ranks.
inline constexpr std::int64_t kBlockElements = 1024;

// A tensor's place. `begin` is the flat index: independent of the number of ranks.
struct ParameterSlot {
  Parameter parameter;
  int bucket = -1;         // -1: not trained, lies behind all buckets
  std::int64_t begin = 0;  // flat index of the first element
  std::int64_t size = 0;   // elements
  std::int64_t offset =
      0;         // element offset in the flat buffers (index plus slack of buckets before)
  int tile = 1;  // its elements' order in all flat buffers (weight_tiles.h); 1: plain
};

// A contiguous range of the flat buffers that is exchanged and updated as one. With W ranks a shard
// is ceil(blocks / W) consecutive blocks; slack for equal shards lies behind the bucket.
struct Bucket {
  std::int64_t begin = 0;           // flat index
  std::int64_t size = 0;            // elements, whole blocks
  std::int64_t offset = 0;          // element offset in the flat buffers
  std::int64_t shard_elements = 0;  // per rank; ranks * shard_elements >= size
};

// One buffer per role (parameters, gradients, optimizer state), in the order in which gradients
// become ready in the backward pass. Trained tensors and statistics come first, in buckets;
// tensors that never change lie behind them and have no gradient.
struct ParameterLayout {
  int ranks = 1;
  std::vector<ParameterSlot> slots;
  std::vector<Bucket> buckets;
  std::int64_t gradient_elements = 0;   // length of the gradient buffer, slack included
  std::int64_t parameter_elements = 0;  // length of the parameter buffer
  std::unordered_map<std::string, int> by_name;

  const ParameterSlot& slot(const std::string& name) const;  // REQUIRES: the name exists
};

// Packs parameters, given in gradient-ready order, into 1 to 4 buckets of about equal size (one
// below 1 MiB in all); no tensor straddles buckets.
ParameterLayout make_parameter_layout(const std::vector<Parameter>& ready_order,
                                      const std::vector<Parameter>& untrained, int ranks);

}  // namespace models
