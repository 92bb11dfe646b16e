#pragma once

#include <cstddef>
#include <span>

// Memory of the software GPU. Device memory lies in one reserved range per device, which the host
// may not touch: pages are open only inside an Access. Allocations end at a page that is never
// open, addresses are never used twice, fresh bytes are 0xff (NaN). Page-locked memory of the host
// lies in a range of its own.
// Not thread-safe: the callers hold the lock of queue.h.
namespace software_gpu {

using Bytes = std::span<const std::byte>;

int num_devices();
std::size_t memory_bytes();  // of each device
std::size_t used_bytes(int device);

// Null when the memory of the device does not suffice.
void* allocate_device(int device, std::size_t size_bytes);
void release_device(void* data);
void* allocate_host(std::size_t size_bytes);
void release_host(void* data);

// The allocation (of either kind) that holds `data`, one past its end included; empty: none.
Bytes allocation_of(const void* data);
// In the range of a device, allocated or not; -1: in none.
int device_of(const void* data);
// All of it inside one page-locked allocation.
bool page_locked(Bytes bytes);
// In memory of this process that is neither a device's nor page-locked: what a GPU cannot reach.
bool ordinary_host_memory(const void* data);

// Opens the memory of all devices while it lives. May nest.
class Access {
 public:
  Access();
  ~Access();
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;
};

}  // namespace software_gpu
