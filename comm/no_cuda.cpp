#include "comm/cuda_calls.h"
#include "comm/error.h"

namespace comm::cuda {
namespace {

[[noreturn]] void fail_without_cuda() {
  fail(ExitCode::kDevice,
       "device cuda: this build has no CUDA; set runtime.device=cpu or run `launch/build cuda`");
}

}  // namespace

void* allocate(int, std::size_t) { fail_without_cuda(); }
void release(int, void*) noexcept {}
void* allocate_host(int, std::size_t) { fail_without_cuda(); }
void release_host(void*) noexcept {}
void copy(StreamView, std::span<std::byte>, std::span<const std::byte>) { fail_without_cuda(); }
void zero(StreamView, std::span<std::byte>) { fail_without_cuda(); }

void* create_stream(int) { fail_without_cuda(); }
void destroy_stream(void*) noexcept {}
void synchronize(StreamView) { fail_without_cuda(); }

void* create_event(int) { fail_without_cuda(); }
void destroy_event(void*) noexcept {}
void record(StreamView, void*) { fail_without_cuda(); }
void wait(StreamView, void*) { fail_without_cuda(); }
bool done(void*) { fail_without_cuda(); }
void synchronize_event(void*) { fail_without_cuda(); }

void begin_capture(StreamView) { fail_without_cuda(); }
void* end_capture(StreamView) { fail_without_cuda(); }
void cancel_capture(StreamView) noexcept {}
void launch_graph(StreamView, void*) { fail_without_cuda(); }
void destroy_graph(void*) noexcept {}

void run_body(StreamView, std::span<const std::byte>, std::function<void()>) {
  fail_without_cuda();
}

}  // namespace comm::cuda
