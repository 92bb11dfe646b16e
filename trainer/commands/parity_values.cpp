#include "trainer/commands/parity_values.h"

#include <cmath>
#include <limits>

#include "comm/buffer.h"
#include "models/graph/reorder.h"

namespace trainer {
namespace {

using models::Tensor;
using models::Type;

template <typename T>
std::vector<float> read_as(comm::StreamView stream, const Tensor& tensor) {
  std::vector<T> values(static_cast<std::size_t>(tensor.shape.count()));
  comm::copy_bytes(stream, std::as_writable_bytes(std::span(values)),
                   {tensor.data, values.size() * sizeof(T)});
  stream.synchronize();
  return {values.begin(), values.end()};
}

template <typename T>
void write_as(comm::StreamView stream, const Tensor& tensor, const std::vector<float>& values) {
  const std::vector<T> typed(values.begin(), values.end());
  comm::copy_bytes(stream, {tensor.data, typed.size() * sizeof(T)},
                   std::as_bytes(std::span(typed)));
  stream.synchronize();
}

bool is_plain_float(const Tensor& tensor) {
  return tensor.type == Type::kF32 && (tensor.shape.rank != 4 || tensor.channel_block == 1);
}

// fp32 in plain order, on the tensor's device.
struct Staged {
  Staged(comm::StreamView stream, const Tensor& like)
      : memory(stream.device(), static_cast<std::size_t>(like.shape.count()) * sizeof(float)),
        tensor{memory.bytes().data(), Type::kF32, like.shape} {}
  comm::Buffer memory;
  Tensor tensor;
};

}  // namespace

std::vector<float> read_values(comm::StreamView stream, const Tensor& tensor) {
  if (tensor.type == Type::kI32) return read_as<std::int32_t>(stream, tensor);
  if (tensor.type == Type::kI64) return read_as<std::int64_t>(stream, tensor);
  if (is_plain_float(tensor)) return read_as<float>(stream, tensor);
  const Staged staged(stream, tensor);
  models::reorder(stream, tensor, staged.tensor, false);
  return read_as<float>(stream, staged.tensor);
}

void write_values(comm::StreamView stream, const Tensor& tensor, const std::vector<float>& values) {
  REQUIRE(static_cast<std::int64_t>(values.size()) == tensor.shape.count(), "{} values for {}",
          values.size(), models::to_string(tensor.shape));
  if (tensor.type == Type::kI32) return write_as<std::int32_t>(stream, tensor, values);
  if (tensor.type == Type::kI64) return write_as<std::int64_t>(stream, tensor, values);
  if (is_plain_float(tensor)) return write_as<float>(stream, tensor, values);
  const Staged staged(stream, tensor);
  write_as<float>(stream, staged.tensor, values);
  models::reorder(stream, staged.tensor, tensor, false);
  stream.synchronize();
}

double relative_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    norm += double{b[i]} * b[i];
  }
  if (difference == 0) return 0;
  return norm == 0 ? std::numeric_limits<double>::infinity() : std::sqrt(difference / norm);
}

double share_of_others(const std::vector<float>& a, const std::vector<float>& b) {
  std::size_t others = 0;
  for (std::size_t i = 0; i < a.size(); ++i) others += a[i] != b[i];
  return a.empty() ? 0.0 : static_cast<double>(others) / static_cast<double>(a.size());
}

}  // namespace trainer
