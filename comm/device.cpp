#include "comm/device.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <fstream>

namespace comm {
namespace {

// Names as oneDNN gives them, so that logs of both can be compared.
std::string isa_name() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    if (__builtin_cpu_supports("avx512bf16")) return "avx512_core_bf16";
    if (__builtin_cpu_supports("avx512vnni")) return "avx512_core_vnni";
    return "avx512_core";
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
  if (__builtin_cpu_supports("avx")) return "avx";
  if (__builtin_cpu_supports("sse4.1")) return "sse41";
  return "baseline";
}

std::string model_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

std::vector<int> affinity_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0)
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(core, &mask)) cores.push_back(core);
  // More than CPU_SETSIZE (1024) cores: the call fails; count them all.
  if (cores.empty())
    for (long core = 0; core < sysconf(_SC_NPROCESSORS_ONLN); ++core)
      cores.push_back(static_cast<int>(core));
  return cores;
}

}  // namespace

std::string to_string(Device device) {
  return device.kind == DeviceKind::kCpu ? "cpu" : fmt::format("cuda:{}", device.index);
}

CpuInfo cpu_info() { return {isa_name(), model_name(), affinity_cores()}; }

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

}  // namespace comm
