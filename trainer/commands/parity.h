#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/progress.h"
#include "trainer/network.h"
#include "trainer/optim/sharded_optimizer.h"

namespace trainer {

// What differs, or differs most: one value of one step.
struct Difference {
  double distance = 0;  // |gpu - cpu| / |cpu|; of whole numbers, the share that is another
  double most = 0;      // that passes
  std::string where;    // "step 1: backbone.body.conv1 (conv2d), output 0"
};
std::string to_text(const Difference& difference);  // a line

struct ParityResult {
  int steps = 0;
  int ops = 0;                        // steps of the plan that compute, forward and backward
  int gradients = 0;                  // of parameters
  std::vector<Difference> differing;  // in the order of the computation; empty: all agree
  Difference largest;                 // among those that agree
};
std::string to_text(const ParityResult& result);  // lines, the last one sums up

// A CPU in fp32 and a GPU, as configured, take the same training steps from the same weights and
// the same synthetic micro-batch, op by op. After each op its results are compared, then made equal
// on both sides: the GPU's where they agree, so that the next op starts from numbers that bf16
// holds, the CPU's where they differ, so that one wrong op is not blamed on others. Hence what is
// compared is the error of one op, not that of a network.
//
// Passing distances. fp32: 1e-4 of the norm; sums of up to 1e5 products in another order are off by
// about 1e-6. bf16: 2e-2; one rounding is off by at most 2^-8, 2e-3 in the mean of a tensor, and an
// op rounds its weights when a norm is folded into them, its result, and what it accumulates.
// Updates: 1e-5, since both compute them in fp32. Whole numbers (matches): one in a thousand.
// Not compared: bytes that are a kernel's own (indices of pooling); of gradients of activations,
// the parts before the last is added: a difference there names all ops that wrote one.
class Parity {
 public:
  // Of the first data.size. `communicator`: of this rank alone. Errors: as Network's.
  struct Parts {
    comm::StreamView cpu, gpu;
    comm::Communicator& communicator;
    comm::Progress& progress;
  };
  Parity(const Config& config, const Parts& parts);
  ~Parity();

  ParityResult run(int steps);
  Network& gpu();

 private:
  struct Side;
  class Walk;
  void compare_updates(const std::string& when, ParityResult& result);

  const double lr_;
  comm::Progress& progress_;
  std::unique_ptr<Side> cpu_, gpu_;
};

// The device of the configuration must be a GPU; the CPU computes with the threads of a run.
// Errors: kUsage for several ranks, kDevice without a GPU.
ParityResult run_parity(const Config& config, int steps, comm::Communicator& communicator,
                        comm::Progress& progress);

}  // namespace trainer
