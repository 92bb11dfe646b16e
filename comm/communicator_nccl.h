#pragma once

#include <chrono>
#include <memory>

#include "comm/communicator.h"
#include "comm/stream.h"

namespace comm {

struct NcclOptions {
  StreamView compute;                      // of the rank's own GPU
  std::chrono::seconds init_deadline{60};  // for all ranks to join
  std::chrono::seconds step_deadline{30};  // for one verb, once this rank is ready for it
};

// The ranks of `control`, with bulk verbs (exchange, reduce_scatter, all_gather of device spans) by
// NCCL on a stream of its own, ordered with `compute` by events as communicator.h says: the host
// waits for nothing but, at first use, the peers. A thread watches NCCL's errors and the deadline;
// when a peer is gone it ends the communicator, so that what waits for the GPU goes on, and the
// next call of any verb throws.
// Small verbs, split and abort go through `control`, which carries NCCL's id and outlives this. An
// exchange ignores its tag: NCCL matches by order, so all ranks start their exchanges in the same
// order. Collective, and so is its end, which waits for the peers as long as for one verb; an
// exception that ends it does not.
// Errors: kDevice for a device, kPeerLost for a peer or a deadline; either ends this communicator.
std::unique_ptr<Communicator> nccl_communicator(Communicator& control, NcclOptions options);

}  // namespace comm
