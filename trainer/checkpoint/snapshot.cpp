#include "trainer/checkpoint/snapshot.h"

#include "comm/error.h"

namespace trainer {
namespace {

template <typename T>
std::span<const T> elements(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
}

}  // namespace

std::size_t element_bytes(ElementType type) {
  return type == ElementType::kFloat32 ? sizeof(float) : sizeof(std::int64_t);
}

std::span<const float> Array::floats() const {
  REQUIRE(type == ElementType::kFloat32, "the array holds int64");
  return elements<float>(bytes);
}

std::span<const std::int64_t> Array::integers() const {
  REQUIRE(type == ElementType::kInt64, "the array holds float32");
  return elements<std::int64_t>(bytes);
}

}  // namespace trainer
