#pragma once

#include <cstddef>
#include <span>

#include "comm/device.h"
#include "comm/stream.h"

// What buffer.cpp and stream.cpp need of CUDA; in memory_cuda.cpp, or in no_cuda.cpp for a build
// without it. Errors: kDevice.
namespace comm::cuda {

void* allocate(int device, std::size_t size_bytes);
void release(int device, void* data) noexcept;
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

}  // namespace comm::cuda
