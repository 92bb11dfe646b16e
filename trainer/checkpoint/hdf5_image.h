#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "trainer/checkpoint/snapshot.h"

namespace trainer {

// Bytes of an HDF5 file that exists in memory only. Move-only.
class ImageBytes {
 public:
  ImageBytes() = default;
  ImageBytes(std::byte* malloced, std::size_t size, std::size_t capacity)
      : data_(malloced), size_(size), capacity_(capacity) {}
  std::span<const std::byte> bytes() const { return {data_.get(), size_}; }
  std::size_t capacity() const { return capacity_; }
  std::byte* release() { return data_.release(); }  // the caller frees it

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0, capacity_ = 0;
};

// Builds an HDF5 file in memory (core driver without backing store, EARLIEST bounds: images of
// later formats cannot be reopened with 1.10.8). The same calls give the same bytes. Safe to use
// from several threads, one writer each. Errors: kBug, naming call and dataset; no disk is
// involved.
class ImageWriter {
 public:
  // `payload_bytes` of all datasets together: room is made once, growth would copy. `spare`: of a
  // file that is needed no more; its memory is written anew if it is large enough.
  explicit ImageWriter(std::size_t payload_bytes, ImageBytes spare = {});
  ~ImageWriter();
  ImageWriter(const ImageWriter&) = delete;
  ImageWriter& operator=(const ImageWriter&) = delete;

  // `path` within the file, missing groups are made. Shape {} is a scalar dataspace.
  void write(const std::string& path, const NamedArray& array);
  // The complete file; the writer is empty afterwards.
  ImageBytes finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// What a file may contain.
enum class Trust {
  kOwn,      // bytes whose digest has been verified: float32 and int64 as ImageWriter writes them
  kForeign,  // the limits of weights.h; REQUIRES: isolation, HDF5 itself can crash on such files
};

// Reads an HDF5 file in memory. Errors: kData, naming dataset and cause.
class ImageReader {
 public:
  // REQUIRES: `image` outlives the reader.
  ImageReader(std::span<const std::byte> image, Trust trust);
  ~ImageReader();
  ImageReader(const ImageReader&) = delete;
  ImageReader& operator=(const ImageReader&) = delete;

  // Names at the root in byte order. Errors also for links that are not hard and for groups.
  std::vector<std::string> root_datasets() const;
  Array read(const std::string& path) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace trainer
