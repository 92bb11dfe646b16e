#include "trainer/tasks/host_outputs.h"

#include <algorithm>
#include <cmath>

namespace trainer {

HostOutputs::HostOutputs(const models::Executable& plan, comm::StreamView stream)
    : plan_(plan), stream_(stream) {
  if (stream.on_cpu()) return;
  std::size_t size_bytes = 0;
  for (const auto& named : plan.plan().graph->outputs()) {
    const models::Tensor from = plan.output(named.name);
    copies_.push_back({from, size_bytes});
    constexpr std::size_t kAlignment = comm::Buffer::kAlignment;
    const auto bytes = static_cast<std::size_t>(from.physical_bytes());
    size_bytes += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  memory_ = comm::Buffer::for_transfer(stream.device(), size_bytes);
}

void HostOutputs::fetch() const {
  for (const Copy& copy : copies_) {
    const auto bytes = static_cast<std::size_t>(copy.from.physical_bytes());
    comm::copy_bytes(stream_, memory_.bytes().subspan(copy.at, bytes), {copy.from.data, bytes});
  }
  stream_.synchronize();
}

models::Tensor HostOutputs::output(const std::string& name) const {
  models::Tensor tensor = plan_.output(name);
  for (const Copy& copy : copies_) {
    if (copy.from.data == tensor.data) tensor.data = memory_.bytes().data() + copy.at;
  }
  return tensor;
}

std::string HostOutputs::non_finite(int n) const {
  for (const auto& named : plan_.plan().graph->outputs()) {
    const models::Tensor tensor = output(named.name);
    if (tensor.type != models::Type::kF32) continue;
    const std::int64_t size = tensor.shape.count() / tensor.shape[0];
    const float* first = tensor.f32() + n * size;
    const auto finite = [](float value) { return std::isfinite(value); };
    if (!std::all_of(first, first + size, finite)) return named.name;
  }
  return "";
}

}  // namespace trainer
