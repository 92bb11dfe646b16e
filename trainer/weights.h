#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "models/graph/executable.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/optim/sharded_optimizer.h"

namespace trainer {

// Fresh values of every parameter: Philox keyed by (seed, parameter name, element), so they do not
// depend on order, layout or rank. REQUIRES, as load_weights: no work on the storage in flight.
void initialize(models::ParameterStorage& storage, std::uint64_t seed);

struct LoadOptions {
  bool partial = false;   // what does not fit is left as it is and listed
  bool initial = false;   // of --init: a message may advise --init-partial
  bool backbone = false;  // torchvision's classification names: fc.* and classifier.* are
                          // ignored, except by FCN on VGG16, whose fc6 and fc7 they become
  std::string prefix;     // of the model's backbone names ("backbone.body."), for `backbone`
  std::string source;     // for messages
};

// Copies tensors by name. num_batches_tracked may be there or not. Errors: kCheckpointRefused
// listing what is missing, unexpected or of another shape, unless partial. Returns that list
// otherwise.
std::vector<std::string> load_weights(models::ParameterStorage& storage, const TensorMap& tensors,
                                      const LoadOptions& options);

// Optimizer state as it was saved, by any number of ranks and in any order of its elements, becomes
// the optimizer's. Errors: kCheckpointRefused.
void load_state(ShardedOptimizer& optimizer, const models::ParameterLayout& layout,
                const Checkpoint& checkpoint);

// Every tensor of the model by its torchvision name, as views of `parameters` (memory of the host,
// laid out as the storage's), of `layout` and of `step`, the value of each counter.
std::vector<NamedArray> model_arrays(const models::ParameterLayout& layout,
                                     std::span<const std::byte> parameters,
                                     const std::vector<std::string>& counters,
                                     const std::int64_t& step);

}  // namespace trainer
