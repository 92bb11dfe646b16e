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

}  // namespace comm::cuda
