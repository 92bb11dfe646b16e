#include "trainer/device.h"

#include "comm/error.h"

namespace trainer {

comm::Device choose_device(const RuntimeConfig& runtime) {
  if (runtime.device == DeviceChoice::kCuda) {
    comm::fail(comm::ExitCode::kDevice,
               "runtime.device: this build has no CUDA kernels; set runtime.device=cpu or auto");
  }
  if (runtime.precision == Precision::kBf16) {
    comm::fail(comm::ExitCode::kDevice,
               "runtime.precision: bf16 needs a GPU; set runtime.precision=fp32 or auto");
  }
  return {};
}

}  // namespace trainer
