#include <cuda_runtime.h>

#include "comm/cuda_calls.h"
#include "comm/cuda_check.h"
#include "comm/error.h"

namespace comm::cuda {
namespace {

cudaStream_t native(StreamView stream) { return static_cast<cudaStream_t>(stream.handle()); }

}  // namespace

void* allocate(int device, std::size_t size_bytes) {
  CHECK_CUDA(cudaSetDevice(device));
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, size_bytes);
  if (error == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());  // else the next launch would be taken for the failure
    std::size_t available = 0, total = 0;
    CHECK_CUDA(cudaMemGetInfo(&available, &total));
    fail(ExitCode::kDevice,
         "cuda:{} is out of memory: {} bytes wanted, {} of {} free; use a smaller "
         "train.micro_batch or data.size, or end other programs on this GPU",
         device, size_bytes, available, total);
  }
  CHECK_CUDA(error);
  return data;
}

void release(int device, void* data) noexcept {
  if (cudaSetDevice(device) == cudaSuccess) static_cast<void>(cudaFree(data));
}

void* allocate_host(int device, std::size_t size_bytes) {
  CHECK_CUDA(cudaSetDevice(device));
  void* data = nullptr;
  const cudaError_t error = cudaHostAlloc(&data, size_bytes, cudaHostAllocPortable);
  if (error == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    fail(ExitCode::kSystemLimit,
         "out of page-locked memory on host {}: {} bytes wanted; use fewer ranks per host, or a "
         "smaller data.size",
         host_name(), size_bytes);
  }
  CHECK_CUDA(error);
  return data;
}

void release_host(void* data) noexcept { static_cast<void>(cudaFreeHost(data)); }

void copy(StreamView stream, std::span<std::byte> to, std::span<const std::byte> from) {
  CHECK_CUDA(cudaMemcpyAsync(to.data(), from.data(), to.size(), cudaMemcpyDefault, native(stream)));
}

void zero(StreamView stream, std::span<std::byte> bytes) {
  CHECK_CUDA(cudaMemsetAsync(bytes.data(), 0, bytes.size(), native(stream)));
}

void* create_stream(int device) {
  CHECK_CUDA(cudaSetDevice(device));
  cudaStream_t stream = nullptr;
  CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

void destroy_stream(void* stream) noexcept {
  static_cast<void>(cudaStreamDestroy(static_cast<cudaStream_t>(stream)));
}

void synchronize(StreamView stream) { CHECK_CUDA(cudaStreamSynchronize(native(stream))); }

void* create_event(int device) {
  CHECK_CUDA(cudaSetDevice(device));
  cudaEvent_t event = nullptr;
  CHECK_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}

void destroy_event(void* event) noexcept {
  static_cast<void>(cudaEventDestroy(static_cast<cudaEvent_t>(event)));
}

void record(StreamView stream, void* event) {
  CHECK_CUDA(cudaEventRecord(static_cast<cudaEvent_t>(event), native(stream)));
}

void wait(StreamView stream, void* event) {
  CHECK_CUDA(cudaStreamWaitEvent(native(stream), static_cast<cudaEvent_t>(event), 0));
}

bool done(void* event) {
  const cudaError_t state = cudaEventQuery(static_cast<cudaEvent_t>(event));
  if (state == cudaErrorNotReady) return false;
  CHECK_CUDA(state);
  return true;
}

void synchronize_event(void* event) {
  CHECK_CUDA(cudaEventSynchronize(static_cast<cudaEvent_t>(event)));
}

}  // namespace comm::cuda
