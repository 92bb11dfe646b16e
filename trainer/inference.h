#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "trainer/feed.h"
#include "trainer/network.h"
#include "trainer/tasks/host_outputs.h"

namespace trainer {

// A loader's batches through the inference plans of a network, one after the other.
class Inference {
 public:
  // REQUIRES: network and loader outlive this.
  Inference(Network& network, Loader& loader);

  // The next batch; nullptr at the end.
  Batch* next() { return feeder_.next(); }
  // What the network puts out for it, until the next call.
  const HostOutputs& run(Batch& batch, std::int64_t parameter_version);

 private:
  Network& network_;
  Feeder feeder_;
  std::vector<std::unique_ptr<HostOutputs>> outputs_;  // by shape bucket, from the first use on
};

}  // namespace trainer
