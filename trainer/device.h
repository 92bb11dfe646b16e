#pragma once

#include "comm/device.h"
#include "trainer/config/config.h"

namespace trainer {

// The device of a run. `auto` is the CPU: the CUDA backend computes nothing yet.
// Errors: kDevice for a device or precision that this build does not have.
comm::Device choose_device(const RuntimeConfig& runtime);

}  // namespace trainer
