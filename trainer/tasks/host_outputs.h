#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "comm/buffer.h"
#include "models/graph/executable.h"

namespace trainer {

// The named outputs of a plan as the host reads them: on a CPU the plan's own memory, else
// page-locked copies.
class HostOutputs {
 public:
  // REQUIRES: the plan outlives this.
  HostOutputs(const models::Executable& plan, comm::StreamView stream);

  // Waits for what the stream has been given so far, then for the copies.
  void fetch() const;
  // REQUIRES: a named output of the plan; fetched after its last run.
  models::Tensor output(const std::string& name) const;
  // The first output in which image n of the batch has a value that is not finite; empty: none.
  std::string non_finite(int n) const;

 private:
  struct Copy {
    models::Tensor from;
    std::size_t at;  // bytes
  };
  const models::Executable& plan_;
  comm::StreamView stream_;
  std::vector<Copy> copies_;  // in the order of the graph's outputs
  comm::Buffer memory_;
};

}  // namespace trainer
