#include "comm/gpu.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <fstream>

#include "comm/error.h"

namespace comm {
namespace {

// The driver's C interface, with the names of its manual ("CUDA Driver API"); 0 is success.
using CuResult = int;
using CuDevice = int;
using CuContext = void*;
constexpr CuResult kNoDevice = 100;
constexpr int kCapabilityMajor = 75, kCapabilityMinor = 76;  // CU_DEVICE_ATTRIBUTE_...

template <typename Function>
Function* symbol(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

class Driver {
 public:
  // Stays open: the driver does not take being unloaded.
  Driver() : library_(dlopen("libcuda.so.1", RTLD_NOW)) {}

  bool present() const { return library_ != nullptr; }

  // A function that an old driver lacks answers as one that fails.
  template <typename... Args>
  CuResult call(const char* name, Args... args) const {
    constexpr CuResult kNotSupported = 801;
    auto* function = symbol<CuResult(Args...)>(library_, name);
    return function == nullptr ? kNotSupported : function(args...);
  }

  std::string text(CuResult result) const {
    const char* text = nullptr;
    call("cuGetErrorString", result, &text);
    return fmt::format("{} (CUDA error {})", text == nullptr ? "unknown error" : text, result);
  }

  void check(const Gpu& gpu, CuResult result) const {
    if (result == 0) return;
    fail(ExitCode::kDevice, "cuda:{} ({}) cannot be used: {}; run `nvidia-smi`, or reset the GPU",
         gpu.index, gpu.name, text(result));
  }

 private:
  void* library_;
};

Gpu describe(const Driver& driver, CuDevice device, int index) {
  Gpu gpu;
  gpu.index = index;
  std::array<char, 256> name{};
  if (driver.call("cuDeviceGetName", name.data(), static_cast<int>(name.size() - 1), device) == 0)
    gpu.name = name.data();
  std::array<unsigned char, 16> uuid{};
  if (driver.call("cuDeviceGetUuid_v2", uuid.data(), device) == 0)
    for (const unsigned char byte : uuid) gpu.uuid += fmt::format("{:02x}", byte);
  std::size_t bytes = 0;
  if (driver.call("cuDeviceTotalMem_v2", &bytes, device) == 0)
    gpu.memory_bytes = static_cast<std::int64_t>(bytes);
  int major = 0, minor = 0;
  driver.call("cuDeviceGetAttribute", &major, kCapabilityMajor, device);
  driver.call("cuDeviceGetAttribute", &minor, kCapabilityMinor, device);
  gpu.capability = 10 * major + minor;
  return gpu;
}

std::string no_gpu_text() {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (visible == nullptr) return "the NVIDIA driver finds no GPU";
  return fmt::format("CUDA_VISIBLE_DEVICES='{}' leaves no GPU", visible);
}

// What `name` of a library that this program is linked with answers; 0: it is not.
int linked_version(const char* name) {
  int version = 0;
  if (auto* function = symbol<int(int*)>(RTLD_DEFAULT, name)) function(&version);
  return version;
}

}  // namespace

GpuSurvey survey_gpus() {
  GpuSurvey survey;
  const Driver driver;
  if (!driver.present()) {
    survey.problem = "no NVIDIA driver on this machine (no libcuda.so.1)";
    return survey;
  }
  std::ifstream("/sys/module/nvidia/version") >> survey.driver_release;
  driver.call("cuDriverGetVersion", &survey.driver);
  int num_devices = 0;
  CuResult result = driver.call("cuInit", 0u);
  if (result == 0) result = driver.call("cuDeviceGetCount", &num_devices);
  if (result != 0 && result != kNoDevice) {
    survey.problem = "the NVIDIA driver does not start: " + driver.text(result);
    return survey;
  }
  for (int index = 0; index < num_devices; ++index) {
    CuDevice device = 0;
    if (driver.call("cuDeviceGet", &device, index) == 0)
      survey.gpus.push_back(describe(driver, device, index));
  }
  if (survey.gpus.empty()) survey.problem = no_gpu_text();
  return survey;
}

// A library that is linked has its functions in the global scope.
GpuLibraries gpu_libraries() {
  GpuLibraries libraries;
  libraries.runtime = linked_version("cudaRuntimeGetVersion");
  libraries.nccl = linked_version("ncclGetVersion");
  if (auto* cudnn = symbol<std::size_t()>(RTLD_DEFAULT, "cudnnGetVersion"))
    libraries.cudnn = static_cast<int>(cudnn());
  return libraries;
}

std::int64_t free_gpu_bytes(const Gpu& gpu) {
  const Driver driver;
  if (!driver.present()) fail(ExitCode::kDevice, "no NVIDIA driver on this machine");
  CuDevice device = 0;
  CuContext context = nullptr, current = nullptr;
  std::size_t free = 0, total = 0;
  driver.check(gpu, driver.call("cuInit", 0u));
  driver.check(gpu, driver.call("cuDeviceGet", &device, gpu.index));
  driver.check(gpu, driver.call("cuDevicePrimaryCtxRetain", &context, device));
  CuResult result = driver.call("cuCtxPushCurrent_v2", context);
  if (result == 0) {
    result = driver.call("cuMemGetInfo_v2", &free, &total);
    driver.call("cuCtxPopCurrent_v2", &current);
  }
  driver.call("cuDevicePrimaryCtxRelease_v2", device);
  driver.check(gpu, result);
  return static_cast<std::int64_t>(free);
}

}  // namespace comm
