#include "tests/software_gpu/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "comm/error.h"

namespace software_gpu {
namespace {

constexpr std::size_t kReserved = std::size_t{1} << 40;
constexpr std::size_t kAlignment = 256;  // as cudaMalloc's
// Large blocks lie on huge pages: memory is opened and closed page by page.
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr int kMaxDevices = 4;
constexpr int kHost = kMaxDevices;  // index of the page-locked range

std::size_t page() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}
std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
std::int64_t setting(const char* name, std::int64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::atoll(value);
}

// A reserved range, filled from its begin on.
struct Range {
  struct Block {
    std::byte* pages;
    std::size_t pages_bytes, size_bytes;
  };
  std::byte* begin = nullptr;
  std::size_t next = 0, used = 0;
  std::map<const std::byte*, Block> blocks;  // by first byte

  bool holds(const void* data) const {
    const auto* at = static_cast<const std::byte*>(data);
    return begin != nullptr && at >= begin && at < begin + kReserved;
  }
  // The block ends at the end of its pages, and a page that stays closed follows.
  std::byte* allocate(std::size_t size_bytes) {
    if (begin == nullptr) {
      void* range = mmap(nullptr, kReserved + kHugePage, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      REQUIRE(range != MAP_FAILED, "no address range for a software GPU");
      begin = reinterpret_cast<std::byte*>(
          round_up(reinterpret_cast<std::uintptr_t>(range), kHugePage));
      next = page();
    }
    const std::size_t aligned = round_up(size_bytes, kAlignment);
    const std::size_t pages_bytes = round_up(aligned, page());
    const bool huge = pages_bytes >= kHugePage;
    if (huge) next = round_up(next, kHugePage);
    REQUIRE(next + pages_bytes + page() <= kReserved, "the software GPU is out of addresses");
    std::byte* const pages = begin + next;
    next += pages_bytes + page();
    if (huge) madvise(pages, pages_bytes, MADV_HUGEPAGE);
    mprotect(pages, pages_bytes, PROT_READ | PROT_WRITE);
    std::memset(pages, 0xff, pages_bytes);
    std::byte* const data = pages + pages_bytes - aligned;
    blocks[data] = {pages, pages_bytes, size_bytes};
    used += size_bytes;
    return data;
  }
  void release(const void* data) {
    const auto found = blocks.find(static_cast<const std::byte*>(data));
    REQUIRE(found != blocks.end(), "{} is released and was not allocated", data);
    const Block& block = found->second;
    mmap(block.pages, block.pages_bytes, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    used -= block.size_bytes;
    blocks.erase(found);
  }
  Bytes find(const void* data) const {
    const auto* at = static_cast<const std::byte*>(data);
    auto after = blocks.upper_bound(at);
    if (after == blocks.begin()) return {};
    const auto& [first, block] = *std::prev(after);
    return at <= first + block.size_bytes ? Bytes(first, block.size_bytes) : Bytes();
  }
  void protect(int mode) const {
    for (const auto& [first, block] : blocks) mprotect(block.pages, block.pages_bytes, mode);
  }
};

// Guarded by the lock of queue.h.
std::array<Range, kMaxDevices + 1> g_ranges;
int g_num_open = 0;

}  // namespace

int num_devices() {
  return static_cast<int>(std::clamp<std::int64_t>(setting("SOFTWARE_GPUS", 1), 0, kMaxDevices));
}
std::size_t memory_bytes() {
  return static_cast<std::size_t>(setting("SOFTWARE_GPU_MIB", 8192)) << 20;
}
std::size_t used_bytes(int device) { return g_ranges.at(static_cast<std::size_t>(device)).used; }

void* allocate_device(int device, std::size_t size_bytes) {
  REQUIRE(device >= 0 && device < num_devices(), "no software GPU {}", device);
  Range& range = g_ranges.at(static_cast<std::size_t>(device));
  if (size_bytes > memory_bytes() - range.used) return nullptr;
  std::byte* const data = range.allocate(size_bytes);
  const Range::Block& block = range.blocks.at(data);
  if (g_num_open == 0) mprotect(block.pages, block.pages_bytes, PROT_NONE);
  return data;
}

void release_device(void* data) {
  g_ranges.at(static_cast<std::size_t>(device_of(data))).release(data);
}
void* allocate_host(std::size_t size_bytes) { return g_ranges[kHost].allocate(size_bytes); }
void release_host(void* data) { g_ranges[kHost].release(data); }

Bytes allocation_of(const void* data) {
  for (const Range& range : g_ranges)
    if (range.holds(data)) return range.find(data);
  return {};
}

int device_of(const void* data) {
  for (int device = 0; device < kMaxDevices; ++device)
    if (g_ranges[static_cast<std::size_t>(device)].holds(data)) return device;
  return -1;
}

bool page_locked(Bytes bytes) {
  if (!g_ranges[kHost].holds(bytes.data())) return false;
  const Bytes whole = g_ranges[kHost].find(bytes.data());
  return bytes.data() + bytes.size() <= whole.data() + whole.size();
}

// Addresses of a position-independent program are above 2^40; small numbers are none.
bool ordinary_host_memory(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  if (address < (std::uintptr_t{1} << 40) || address >= (std::uintptr_t{1} << 47)) return false;
  for (const Range& range : g_ranges)
    if (range.holds(data)) return false;
  void* const first = reinterpret_cast<void*>(address / page() * page());
  return msync(first, 1, MS_ASYNC) == 0;
}

Access::Access() {
  if (g_num_open++ > 0) return;
  for (int device = 0; device < kMaxDevices; ++device)
    g_ranges[static_cast<std::size_t>(device)].protect(PROT_READ | PROT_WRITE);
}

Access::~Access() {
  if (--g_num_open > 0) return;
  for (int device = 0; device < kMaxDevices; ++device)
    g_ranges[static_cast<std::size_t>(device)].protect(PROT_NONE);
}

}  // namespace software_gpu
