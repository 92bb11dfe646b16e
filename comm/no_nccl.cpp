#include "comm/communicator_nccl.h"

namespace comm {

std::unique_ptr<Communicator> nccl_communicator(Communicator&, NcclOptions) {
  fail(ExitCode::kDevice,
       "this build has no NCCL; set runtime.device=cpu, or install NCCL and run `launch/build "
       "cuda`");
}

}  // namespace comm
