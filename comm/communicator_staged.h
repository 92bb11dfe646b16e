#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/stream.h"

namespace comm {

// The ranks of `control` with bulk verbs on memory of the device of `compute`: copied to
// page-locked memory of the host, moved by the verbs of `control`, copied back. The staging of a
// verb is kept for the next of its size, so that a step allocates none. In the order of `compute`:
// a verb blocks the host until its data has left the device, `wait` until the peers' has come.
// `control` outlives this, and this its requests. REQUIRES: a CUDA stream.
std::unique_ptr<Communicator> staged_communicator(Communicator& control, StreamView compute);

}  // namespace comm
