#include "trainer/checkpoint/hdf5_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "trainer/checkpoint/hdf5_handle.h"

namespace trainer {
namespace {

constexpr comm::ExitCode kBug = comm::ExitCode::kBug;

herr_t keep_first_description(unsigned, const H5E_error2_t* error, void* out) {
  auto* text = static_cast<std::string*>(out);
  if (text->empty() && error->desc != nullptr) *text = error->desc;
  return 0;
}

}  // namespace

std::string hdf5_cause() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first_description, &text);
  return text.empty() ? "no cause given" : text;
}

void fail_hdf5(comm::ExitCode code, const char* call, const std::string& object) {
  comm::fail(code, "HDF5 cannot {} {}: {}", call, object, hdf5_cause());
}

void prepare_hdf5() {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  check_hdf5(H5PLset_loading_state(0), kBug, "forbid", "plug-ins");
}

std::string unique_image_name() {
  static std::atomic<std::uint64_t> count{0};
  return fmt::format("/dev/null/image-{}", count++);
}

Hdf5Memory::~Hdf5Memory() {
  if (owned_) std::free(block_);
}

// Huge pages: with small ones the 67,000 page faults of 270 MB were half of a snapshot's 200 ms.
void Hdf5Memory::allocate(std::size_t capacity) {
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  capacity = (capacity + kHugePage - 1) / kHugePage * kHugePage;
  block_ = static_cast<std::byte*>(std::aligned_alloc(kHugePage, capacity));
  if (block_ == nullptr)
    comm::fail(comm::ExitCode::kSystemLimit, "no memory for a checkpoint of {} bytes", capacity);
  ::madvise(block_, capacity, MADV_HUGEPAGE);  // a hint
  capacity_ = capacity;
}

hid_t Hdf5Memory::properties_for_writing(std::size_t capacity, ImageBytes spare) {
  if (spare.capacity() >= capacity) {
    capacity_ = spare.capacity();
    block_ = spare.release();
  } else {
    spare = {};  // before more is allocated
    allocate(capacity);
  }
  owned_ = true;
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, kBug, "create", "file properties");
  // An increment of one byte makes the file end where its last byte is.
  check_hdf5(H5Pset_fapl_core(access.get(), 1, false), kBug, "select", "the core driver");
  check_hdf5(H5Pset_libver_bounds(access.get(), H5F_LIBVER_EARLIEST, H5F_LIBVER_V18), kBug, "set",
             "format bounds");
  H5FD_file_image_callbacks_t callbacks = {on_malloc,    on_memcpy,    on_realloc, on_free,
                                           on_copy_self, on_free_self, this};
  check_hdf5(H5Pset_file_image_callbacks(access.get(), &callbacks), kBug, "set", "callbacks");
  return access.release();
}

hid_t Hdf5Memory::properties_for_reading(std::span<const std::byte> image) {
  block_ = const_cast<std::byte*>(image.data());  // opened read-only: never written
  used_ = capacity_ = image.size();
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, kBug, "create", "file properties");
  check_hdf5(H5Pset_fapl_core(access.get(), 1, false), kBug, "select", "the core driver");
  H5FD_file_image_callbacks_t callbacks = {on_malloc,    on_memcpy,    on_realloc, on_free,
                                           on_copy_self, on_free_self, this};
  check_hdf5(H5Pset_file_image_callbacks(access.get(), &callbacks), kBug, "set", "callbacks");
  check_hdf5(H5Pset_file_image(access.get(), block_, used_), kBug, "set", "the file image");
  return access.release();
}

ImageBytes Hdf5Memory::take(std::size_t size) {
  REQUIRE(owned_ && size <= capacity_, "image of {} bytes in {}", size, capacity_);
  if (size > used_) std::memset(block_ + used_, 0, size - used_);
  owned_ = false;
  return {block_, size, capacity_};
}

void* Hdf5Memory::on_malloc(std::size_t, H5FD_file_image_op_t, void* self) {
  return static_cast<Hdf5Memory*>(self)->block_;
}

void* Hdf5Memory::on_memcpy(void* to, const void* from, std::size_t size, H5FD_file_image_op_t,
                            void*) {
  return to == from ? to : std::memcpy(to, from, size);
}

void* Hdf5Memory::on_realloc(void*, std::size_t size, H5FD_file_image_op_t, void* self) {
  auto* memory = static_cast<Hdf5Memory*>(self);
  if (!memory->owned_) return nullptr;
  if (size > memory->capacity_) {
    const std::size_t capacity = size + size / 4;
    auto* block = static_cast<std::byte*>(std::realloc(memory->block_, capacity));
    if (block == nullptr) return nullptr;
    memory->block_ = block;
    memory->capacity_ = capacity;
  }
  memory->used_ = size;
  return memory->block_;
}

herr_t Hdf5Memory::on_free(void*, H5FD_file_image_op_t, void*) { return 0; }

}  // namespace trainer
