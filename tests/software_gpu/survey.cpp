// The survey of comm/gpu.h on the software GPU, in place of comm/gpu.cpp.
#include <fmt/format.h>

#include "comm/gpu.h"
#include "tests/software_gpu/queue.h"

namespace comm {
namespace {

constexpr int kVersion = 13000;

}  // namespace

GpuSurvey survey_gpus() {
  GpuSurvey survey{kVersion, "software"};
  for (int index = 0; index < software_gpu::num_devices(); ++index)
    survey.gpus.push_back({index, "Software GPU", fmt::format("{:032x}", 0x50f7 + index), 90,
                           static_cast<std::int64_t>(software_gpu::memory_bytes())});
  if (survey.gpus.empty()) survey.problem = "the NVIDIA driver finds no GPU";
  return survey;
}

GpuLibraries gpu_libraries() { return {kVersion, 91300, 0}; }

std::int64_t free_gpu_bytes(const Gpu& gpu) {
  const std::lock_guard lock(software_gpu::device_lock());
  return static_cast<std::int64_t>(software_gpu::memory_bytes() -
                                   software_gpu::used_bytes(gpu.index));
}

}  // namespace comm
