#include <cuda_runtime.h>

#include "comm/cuda_calls.h"
#include "comm/cuda_check.h"
#include "comm/error.h"

namespace comm::cuda {
namespace {

cudaStream_t native(StreamView stream) { return static_cast<cudaStream_t>(stream.handle()); }

}  // namespace

// Thread-local: the heartbeat, readers and writers of this process may call CUDA meanwhile.
void begin_capture(StreamView stream) {
  CHECK_CUDA(cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeThreadLocal));
}

void* end_capture(StreamView stream) {
  cudaGraph_t graph = nullptr;
  CHECK_CUDA(cudaStreamEndCapture(native(stream), &graph));
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  static_cast<void>(cudaGraphDestroy(graph));
  CHECK_CUDA(error);
  return executable;
}

void cancel_capture(StreamView stream) noexcept {
  cudaGraph_t graph = nullptr;
  static_cast<void>(cudaStreamEndCapture(native(stream), &graph));
  if (graph != nullptr) static_cast<void>(cudaGraphDestroy(graph));
  static_cast<void>(cudaGetLastError());  // the failed capture's, already reported
}

void launch_graph(StreamView stream, void* graph) {
  CHECK_CUDA(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), native(stream)));
}

void destroy_graph(void* graph) noexcept {
  static_cast<void>(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)));
}

void run_body(StreamView, std::span<const std::byte>, std::function<void()>) {
  fail(ExitCode::kDevice, "this kernel was compiled for the CPU only; build the cuda preset");
}

}  // namespace comm::cuda
