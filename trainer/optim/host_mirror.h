#pragma once

#include <cstddef>
#include <span>

#include "comm/buffer.h"
#include "comm/stream.h"

namespace trainer {

// Where the host reads and writes what lies in a device's buffer: on a CPU the buffer itself, else
// page-locked memory of the same size, to and from which contents are copied. Move-only.
class HostMirror {
 public:
  HostMirror() = default;  // of nothing
  // REQUIRES: the buffer outlives this.
  explicit HostMirror(const comm::Buffer& buffer);

  bool is_copy() const { return copy_.size_bytes() > 0; }
  std::span<std::byte> bytes() const;
  template <typename T>
  std::span<T> as() const {
    return {reinterpret_cast<T*>(bytes().data()), bytes().size() / sizeof(T)};
  }

  // ASYNC: the host reads what was fetched, and writes anew what was stored, once the stream has
  // passed. On a CPU both do nothing.
  void fetch(comm::StreamView stream) const;
  void fetch(comm::StreamView stream, std::size_t offset_bytes, std::size_t size_bytes) const;
  void store(comm::StreamView stream) const;

 private:
  std::span<std::byte> original_;
  comm::Buffer copy_;
};

}  // namespace trainer
