#pragma once

#include <functional>

#include "comm/communicator.h"

namespace comm {

// Runs body(rank's communicator) on `size` threads of this process and waits for all. When a rank
// throws, its peers' calls throw kPeerLost, and the first rank's own exception is thrown here.
void run_local(int size, const std::function<void(Communicator&)>& body);

// The communicator of a run of one rank without a launcher: abort ends the process.
std::unique_ptr<Communicator> single_communicator();

}  // namespace comm
