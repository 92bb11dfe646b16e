#pragma once

#include <hdf5.h>

#include <cstddef>
#include <span>
#include <string>

#include "trainer/checkpoint/hdf5_image.h"

namespace trainer {

// Memory behind an HDF5 file that lives in memory. HDF5's core driver calls back into it for every
// (re)allocation, so that nothing is copied: a file being written grows in a block that is taken
// over afterwards, a file being read lies in the caller's bytes.
// Invariant: its address is fixed while HDF5 holds it.
class Hdf5Memory {
 public:
  Hdf5Memory() = default;
  ~Hdf5Memory();
  Hdf5Memory(const Hdf5Memory&) = delete;
  Hdf5Memory& operator=(const Hdf5Memory&) = delete;

  // File access properties for a new file with room for `capacity` bytes, in the memory of `spare`
  // if that is enough.
  hid_t properties_for_writing(std::size_t capacity, ImageBytes spare);
  // The same for an existing file. REQUIRES: `image` outlives the file.
  hid_t properties_for_reading(std::span<const std::byte> image);
  // The block, zero-filled up to `size`.
  ImageBytes take(std::size_t size);

 private:
  void allocate(std::size_t capacity);
  static void* on_malloc(std::size_t size, H5FD_file_image_op_t op, void* self);
  static void* on_memcpy(void* to, const void* from, std::size_t size, H5FD_file_image_op_t op,
                         void* self);
  static void* on_realloc(void* block, std::size_t size, H5FD_file_image_op_t op, void* self);
  static herr_t on_free(void* block, H5FD_file_image_op_t op, void* self);
  static void* on_copy_self(void* self) { return self; }
  static herr_t on_free_self(void*) { return 0; }

  std::byte* block_ = nullptr;
  std::size_t used_ = 0;
  std::size_t capacity_ = 0;
  bool owned_ = false;
};

// A path that cannot exist and that no other open file has: HDF5 takes two in-memory files of one
// name for the same file, and looks for a file of that name on disk.
std::string unique_image_name();

}  // namespace trainer
