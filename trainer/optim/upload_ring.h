#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "comm/buffer.h"
#include "comm/stream.h"

namespace trainer {

// A small piece of a device's memory that the host fills anew from step to step. On a GPU the host
// writes into one of two page-locked pieces, whose contents are copied in the order of the stream,
// so that it need not wait for the step before. On a CPU it writes the memory itself.
class UploadRing {
 public:
  UploadRing(comm::StreamView stream, std::size_t size_bytes);

  const comm::Buffer& memory() const { return memory_; }  // of the device; never moves
  // Where the host writes all of the next contents.
  std::span<std::byte> next();
  // They become the memory's, for work launched later.
  void send();

 private:
  struct Piece {
    comm::Buffer bytes;
    comm::Event sent;
  };
  comm::StreamView stream_;
  comm::Buffer memory_;
  std::array<Piece, 2> pieces_;
  std::size_t at_ = 0;
};

}  // namespace trainer
