#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace comm {

// One GPU as this process sees it (CUDA_VISIBLE_DEVICES applies).
struct Gpu {
  int index = 0;                  // CUDA ordinal
  std::string name;               // "NVIDIA H100 80GB HBM3"
  std::string uuid;               // 32 hex digits: the same device has the same on every rank
  int capability = 0;             // 90 is compute capability 9.0
  std::int64_t memory_bytes = 0;  // all of it, used or not
};

struct GpuSurvey {
  int driver = 0;              // newest CUDA that the driver serves, 13000 is 13.0; 0: no driver
  std::string driver_release;  // "580.159.04"; empty where the kernel does not say
  std::vector<Gpu> gpus;
  std::string problem;  // why the driver shows no GPU, one line; empty where it shows one
};

// What the NVIDIA driver says. The driver is opened at run time, never linked: any build, on any
// machine, can say what is there and why there is nothing. Makes no context and takes no memory of
// a device.
GpuSurvey survey_gpus();

// Versions of NVIDIA's libraries that this program is linked with, as each library numbers them
// (runtime 13000, cuDNN 91300, NCCL 22703); 0: not linked, so nothing of this program calls it.
struct GpuLibraries {
  int runtime = 0;
  int cudnn = 0;
  int nccl = 0;
};
GpuLibraries gpu_libraries();

// Free memory of a device now. Opens it as computing would.
// Errors: kDevice when it cannot be opened or answers with an error (ECC, lost, in use).
std::int64_t free_gpu_bytes(const Gpu& gpu);

// 13000 -> "13.0", of the driver and of the runtime.
std::string cuda_version_text(int version);

}  // namespace comm
