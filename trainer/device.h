#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/device.h"
#include "comm/gpu.h"
#include "comm/stream.h"
#include "trainer/config/config.h"

namespace trainer {

// The device of this rank: `auto` is the GPU of the local rank where build and machine can compute
// on one, else the CPU. Collective.
// Errors: kDevice, agreed: no usable GPU for `cuda`, bf16 on a CPU, ranks on devices of two kinds,
// two ranks on one GPU without runtime.share_gpu.
comm::Device choose_device(const RuntimeConfig& runtime, comm::Communicator& communicator);

// The ranks of `control` for gradients and parameters in memory of the stream's device; null where
// `control` itself serves, on a CPU and for one rank. Collective. Errors: kDevice, kPeerLost.
std::unique_ptr<comm::Communicator> bulk_communicator(const RuntimeConfig& runtime,
                                                      comm::Communicator& control,
                                                      comm::StreamView stream);

// runtime.reduction; `auto` is exact where MPI carries the gradients and NCCL's own order where
// NCCL does. `has_nccl`: of the build that trains.
bool exact_reduction(const RuntimeConfig& runtime, comm::DeviceKind device, bool has_nccl);
bool exact_reduction(const RuntimeConfig& runtime, comm::Device device);  // of this build

// What the driver calls the device.
std::string gpu_name(comm::Device device);

// What a process knows of GPUs.
struct GpuView {
  comm::GpuSurvey survey;
  comm::GpuLibraries libraries;
};
GpuView gpu_view();

// Why this build cannot compute on a GPU of this machine, in one line; empty: it can.
std::string gpu_problem(const GpuView& view);

// A device with less free memory than the run will take is refused before anything is allocated.
// CPUs always pass: the system can page and has its own word for it.
// Errors: kDevice.
void require_memory(comm::Device device, std::int64_t wanted_bytes);

// What one rank would compute on, and why not on a GPU.
struct RankDevice {
  comm::DeviceKind kind = comm::DeviceKind::kCpu;
  int index = 0;
  std::string host, gpu_name, gpu_uuid;
  std::string problem;  // of this rank; empty: it may start
};
std::string pack(const RankDevice& device);
RankDevice unpack_rank_device(const std::string& line);

// The choice of one rank, the `local_rank`-th of its host; `host` is left open.
RankDevice rank_device(const RuntimeConfig& runtime, const GpuView& view, int local_rank);

// The choices of all ranks. Collective.
std::vector<RankDevice> gather_devices(const RuntimeConfig& runtime, const GpuView& view,
                                       comm::Communicator& communicator);

// What is wrong with the choices of all ranks together, in one line; empty: nothing.
std::string device_conflict(const RuntimeConfig& runtime, std::span<const RankDevice> ranks);

}  // namespace trainer
