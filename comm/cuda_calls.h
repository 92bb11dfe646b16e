#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "comm/device.h"
#include "comm/stream.h"

// What buffer.cpp, stream.cpp, work_graph.cpp and parallel_no_cuda.h need of CUDA; in
// memory_cuda.cpp and graph_cuda.cpp, or in no_cuda.cpp for a build without it. Errors: kDevice.
namespace comm::cuda {

void* allocate(int device, std::size_t size_bytes);
void release(int device, void* data) noexcept;
void* allocate_host(int device, std::size_t size_bytes);  // page-locked, for every device
void release_host(void* data) noexcept;
void copy(StreamView stream, std::span<std::byte> to, std::span<const std::byte> from);
void zero(StreamView stream, std::span<std::byte> bytes);

void* create_stream(int device);
void destroy_stream(void* stream) noexcept;
void synchronize(StreamView stream);

void* create_event(int device);
void destroy_event(void* event) noexcept;
void record(StreamView stream, void* event);
void wait(StreamView stream, void* event);
bool done(void* event);
void synchronize_event(void* event);

// Between the two, what this thread launches on the stream is recorded instead of run.
void begin_capture(StreamView stream);
void* end_capture(StreamView stream);  // an executable graph
void cancel_capture(StreamView stream) noexcept;
void launch_graph(StreamView stream, void* graph);
void destroy_graph(void* graph) noexcept;

// A kernel that nvcc did not compile: `body` does all of it on the host. An error of the build,
// except where a stand-in of the device takes it. captured: what the body holds by value, so that a
// stand-in can refuse pointers to memory of the host.
void run_body(StreamView stream, std::span<const std::byte> captured, std::function<void()> body);

}  // namespace comm::cuda
