#include "comm/buffer.h"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "comm/cuda_calls.h"

namespace comm {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kHugeFrom = std::size_t{4} << 20;

std::atomic<std::int64_t> g_allocations{0};

// Of one kind of memory.
struct Use {
  std::atomic<std::int64_t> bytes{0}, peak_bytes{0};
};
std::array<Use, 2> g_use;

Use& use_of(DeviceKind kind) { return g_use[kind == DeviceKind::kCpu ? 0 : 1]; }

void count_allocation(DeviceKind kind, std::size_t size_bytes) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  Use& use = use_of(kind);
  const auto size = static_cast<std::int64_t>(size_bytes);
  const std::int64_t now = use.bytes.fetch_add(size, std::memory_order_relaxed) + size;
  std::int64_t peak = use.peak_bytes.load(std::memory_order_relaxed);
  while (now > peak && !use.peak_bytes.compare_exchange_weak(peak, now)) {
  }
}

std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

void* allocate_host(std::size_t size_bytes) {
  const bool huge = size_bytes >= kHugeFrom;
  const std::size_t alignment = huge ? kHugePage : Buffer::kAlignment;
  const std::size_t rounded = round_up(size_bytes, alignment);
  // A size that wraps when rounded cannot be had either.
  void* data = rounded < size_bytes ? nullptr : std::aligned_alloc(alignment, rounded);
  if (data == nullptr)
    fail(ExitCode::kSystemLimit,
         "out of memory on host {}: {} bytes wanted; use a smaller train.micro_batch or data.size, "
         "or fewer ranks per host",
         host_name(), size_bytes);
  // Advice only: without huge pages the buffer is as good, at more TLB misses.
  if (huge) static_cast<void>(madvise(data, rounded, MADV_HUGEPAGE));
  return data;
}

}  // namespace

Buffer::Buffer(Device device, std::size_t size_bytes, Fill fill)
    : device_(device), size_bytes_(size_bytes) {
  if (size_bytes == 0) return;
  if (device.kind == DeviceKind::kCpu) {
    data_ = static_cast<std::byte*>(allocate_host(size_bytes));
    if (fill == Fill::kZero) std::memset(data_, 0, size_bytes);
  } else {
    data_ = static_cast<std::byte*>(cuda::allocate(device.index, size_bytes));
    if (fill == Fill::kZero) {
      const Stream stream(device);
      cuda::zero(stream, bytes());
      stream.view().synchronize();
    }
  }
  count_allocation(device.kind, size_bytes);
}

Buffer Buffer::for_transfer(Device device, std::size_t size_bytes) {
  if (device.kind == DeviceKind::kCpu || size_bytes == 0) return Buffer(Device{}, size_bytes);
  Buffer buffer;
  buffer.data_ = static_cast<std::byte*>(cuda::allocate_host(device.index, size_bytes));
  buffer.size_bytes_ = size_bytes;
  buffer.page_locked_ = true;
  count_allocation(DeviceKind::kCpu, size_bytes);
  return buffer;
}

Buffer::Buffer(Buffer&& other) noexcept
    : device_(other.device_),
      size_bytes_(std::exchange(other.size_bytes_, 0)),
      data_(std::exchange(other.data_, nullptr)),
      page_locked_(other.page_locked_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(data_, other.data_);
  std::swap(page_locked_, other.page_locked_);
  return *this;
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  use_of(device_.kind)
      .bytes.fetch_sub(static_cast<std::int64_t>(size_bytes_), std::memory_order_relaxed);
  if (page_locked_)
    cuda::release_host(data_);
  else if (device_.kind == DeviceKind::kCpu)
    std::free(data_);
  else
    cuda::release(device_.index, data_);
}

std::int64_t allocation_count() { return g_allocations.load(std::memory_order_relaxed); }
std::int64_t allocated_bytes(DeviceKind kind) { return use_of(kind).bytes; }
std::int64_t peak_allocated_bytes(DeviceKind kind) { return use_of(kind).peak_bytes; }

void copy_bytes(StreamView stream, std::span<std::byte> to, std::span<const std::byte> from) {
  REQUIRE(to.size() == from.size(), "{} bytes into {}", from.size(), to.size());
  if (to.empty()) return;
  if (stream.on_cpu())
    std::memcpy(to.data(), from.data(), to.size());
  else
    cuda::copy(stream, to, from);
}

void zero_bytes(StreamView stream, std::span<std::byte> bytes) {
  if (bytes.empty()) return;
  if (stream.on_cpu())
    std::memset(bytes.data(), 0, bytes.size());
  else
    cuda::zero(stream, bytes);
}

}  // namespace comm
