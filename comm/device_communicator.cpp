#include "comm/device_communicator.h"

#include "comm/build.h"
#include "comm/communicator_nccl.h"
#include "comm/communicator_staged.h"

namespace comm {

std::unique_ptr<Communicator> device_communicator(Communicator& control, StreamView compute,
                                                  const DeviceCommunicatorOptions& options) {
  if (!kHasNccl || options.share_gpu) return staged_communicator(control, compute);
  return nccl_communicator(control, {compute, options.init_deadline, options.step_deadline});
}

}  // namespace comm
