#pragma once

#include <string>
#include <vector>

namespace comm {

enum class DeviceKind { kCpu, kCuda };

// Where memory lies and kernels run. One rank drives one device.
struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int index = 0;  // CUDA ordinal; 0 on the CPU

  bool operator==(const Device&) const = default;
};

// "cpu" or "cuda:1".
std::string to_string(Device device);

// The processor as this process may use it.
struct CpuInfo {
  std::string isa;         // newest set that kernels may use: "avx512_core", "avx2", "sse41", ...
  std::string model;       // as the kernel names it; empty where unknown
  std::vector<int> cores;  // logical cores of the affinity mask, ascending
};
CpuInfo cpu_info();

// Name of this host, for messages and for telling which ranks share it.
std::string host_name();

}  // namespace comm
