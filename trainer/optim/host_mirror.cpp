#include "trainer/optim/host_mirror.h"

namespace trainer {

HostMirror::HostMirror(const comm::Buffer& buffer) : original_(buffer.bytes()) {
  if (buffer.device().kind == comm::DeviceKind::kCpu) return;
  copy_ = comm::Buffer::for_transfer(buffer.device(), buffer.size_bytes());
}

std::span<std::byte> HostMirror::bytes() const { return is_copy() ? copy_.bytes() : original_; }

void HostMirror::fetch(comm::StreamView stream) const { fetch(stream, 0, original_.size()); }

void HostMirror::fetch(comm::StreamView stream, std::size_t offset_bytes,
                       std::size_t size_bytes) const {
  if (!is_copy()) return;
  comm::copy_bytes(stream, copy_.bytes().subspan(offset_bytes, size_bytes),
                   original_.subspan(offset_bytes, size_bytes));
}

void HostMirror::store(comm::StreamView stream) const {
  if (is_copy()) comm::copy_bytes(stream, original_, copy_.bytes());
}

}  // namespace trainer
