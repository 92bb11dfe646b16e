#pragma once

#include <chrono>
#include <memory>

#include "comm/communicator.h"
#include "comm/stream.h"

namespace comm {

struct DeviceCommunicatorOptions {
  bool share_gpu = false;                  // several ranks drive one GPU, which NCCL refuses
  std::chrono::seconds init_deadline{60};  // NCCL: for all ranks to join
  std::chrono::seconds step_deadline{30};  // NCCL: for one verb, once this rank is ready
};

// The ranks of `control`, with bulk verbs (exchange, reduce_scatter, all_gather) on memory of the
// device of `compute`: by NCCL where it is built in and no GPU is shared, else staged through
// page-locked memory of the host and the bulk verbs of `control`. Small verbs, split and abort go
// through `control`, which outlives this.
// Ordered with `compute` as communicator.h says: NCCL works on a stream of its own and the host
// goes on; staged, a call blocks the host until the data of this rank is on the host, and
// `wait` until the peers' data has arrived.
// Collective. REQUIRES: a CUDA stream, the same options on every rank.
// Errors: kDevice for a device, kPeerLost for a peer or a deadline.
std::unique_ptr<Communicator> device_communicator(Communicator& control, StreamView compute,
                                                  const DeviceCommunicatorOptions& options = {});

}  // namespace comm
