#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "comm/device.h"
#include "comm/error.h"
#include "comm/stream.h"

namespace comm {

enum class Fill { kNone, kZero };

// The only owner of bulk memory; everything else is a span into one. Move-only. Aligned to
// kAlignment; on the CPU blocks of 4 MiB and more ask for transparent huge pages.
// Errors: kDevice when the device has not enough memory (kSystemLimit on the CPU).
class Buffer {
 public:
  static constexpr std::size_t kAlignment = 64;

  Buffer() = default;  // empty, on the CPU
  Buffer(Device device, std::size_t size_bytes, Fill fill = Fill::kNone);
  // Host memory that copies from and to `device` move asynchronously: page-locked for CUDA, an
  // ordinary buffer for a CPU. Its device() is the CPU. ASYNC: until the stream of such a copy has
  // passed, a source is not written, a target not read and neither is released.
  static Buffer for_transfer(Device device, std::size_t size_bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  Device device() const { return device_; }
  std::size_t size_bytes() const { return size_bytes_; }
  std::span<std::byte> bytes() const { return {data_, size_bytes_}; }

  // `count` elements from `offset_bytes` on. REQUIRES: inside the buffer, aligned for T.
  // A view of device memory must not be read on the host.
  template <typename T>
  std::span<T> as(std::size_t offset_bytes, std::size_t count) const {
    REQUIRE(offset_bytes % alignof(T) == 0, "offset {}", offset_bytes);
    REQUIRE(offset_bytes <= size_bytes_ && count <= (size_bytes_ - offset_bytes) / sizeof(T),
            "{} elements of {} bytes at {} of {}", count, sizeof(T), offset_bytes, size_bytes_);
    return {reinterpret_cast<T*>(data_ + offset_bytes), count};
  }
  template <typename T>
  std::span<T> as() const {
    return as<T>(0, size_bytes_ / sizeof(T));
  }

 private:
  Device device_;
  std::size_t size_bytes_ = 0;
  std::byte* data_ = nullptr;
  bool page_locked_ = false;
};

// Counters over all buffers of the process, for the proof that a step allocates nothing and for the
// memory figure of the log.
std::int64_t allocation_count();
std::int64_t allocated_bytes(DeviceKind kind);
std::int64_t peak_allocated_bytes(DeviceKind kind);

// Copies in the order of `stream`, between host and device or within either.
// REQUIRES: equal sizes. ASYNC on CUDA: both spans stay alive until the stream has passed; the host
// side is memory of Buffer::for_transfer. Other host memory is slower: the call returns when it has
// read such a source, and waits for the stream to have filled such a target.
void copy_bytes(StreamView stream, std::span<std::byte> to, std::span<const std::byte> from);
void zero_bytes(StreamView stream, std::span<std::byte> bytes);

}  // namespace comm
