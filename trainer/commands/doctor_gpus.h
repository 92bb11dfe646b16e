#pragma once

#include <functional>
#include <string>

#include "trainer/commands/doctor_machine.h"
#include "trainer/device.h"

namespace trainer {

// Driver, libraries and devices of rank 0's host, what `device: auto` makes of them, and what is
// wrong. `free`, its free bytes, opens a device and may throw kDevice.
Looked gpu_facts(const GpuView& view, const std::function<std::int64_t(const comm::Gpu&)>& free);

// As cuDNN and NCCL number their versions: 91300 -> "9.13.0".
std::string version_text(int version);

}  // namespace trainer
