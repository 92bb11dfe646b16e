#pragma once

#include <chrono>
#include <memory>

#include "comm/communicator.h"
#include "comm/stream.h"

namespace comm {

struct NcclOptions {
  StreamView stream;                       // where the bulk verbs run; on the rank's own GPU
  std::chrono::seconds init_deadline{60};  // for all ranks to join
  std::chrono::seconds step_deadline{30};  // for one wait
};

// The ranks of `control`, with bulk verbs (exchange, reduce_scatter, all_gather of device spans)
// by NCCL, in the order of `stream`; a Request's wait blocks the host, an Event recorded on the
// stream orders other streams without. Small verbs, split and abort go through `control`, which
// carries NCCL's id and outlives this. An exchange ignores its tag: NCCL matches by order, so all
// ranks start their exchanges in the same order. Collective.
// Errors: kDevice for a device, kPeerLost for a peer or a deadline; either ends this communicator.
std::unique_ptr<Communicator> nccl_communicator(Communicator& control, NcclOptions options);

}  // namespace comm
