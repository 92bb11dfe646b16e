#include "trainer/optim/upload_ring.h"

namespace trainer {

UploadRing::UploadRing(comm::StreamView stream, std::size_t size_bytes)
    : stream_(stream),
      memory_(stream.device(), size_bytes, comm::Fill::kZero),
      pieces_{Piece{{}, comm::Event(stream.device())}, Piece{{}, comm::Event(stream.device())}} {
  if (stream.on_cpu()) return;
  for (Piece& piece : pieces_)
    piece.bytes = comm::Buffer::for_transfer(stream.device(), size_bytes);
}

std::span<std::byte> UploadRing::next() {
  if (stream_.on_cpu()) return memory_.bytes();
  Piece& piece = pieces_[at_];
  piece.sent.synchronize();
  return piece.bytes.bytes();
}

void UploadRing::send() {
  if (stream_.on_cpu()) return;
  Piece& piece = pieces_[at_];
  comm::copy_bytes(stream_, memory_.bytes(), piece.bytes.bytes());
  stream_.record(piece.sent);
  at_ = (at_ + 1) % pieces_.size();
}

}  // namespace trainer
