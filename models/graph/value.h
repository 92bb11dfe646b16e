#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "comm/error.h"

namespace models {

enum class Type : std::uint8_t { kF32, kI32, kI64, kU8, kBF16 };

constexpr std::int64_t type_bytes(Type type) {
  return type == Type::kU8 ? 1 : type == Type::kBF16 ? 2 : type == Type::kI64 ? 8 : 4;
}
std::string to_string(Type type);

// Up to five extents; activations are (N, C, H, W) whatever their physical order.
struct Shape {
  static constexpr int kMaxRank = 5;
  std::array<std::int64_t, kMaxRank> extents{};
  int rank = 0;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> list) {
    REQUIRE(list.size() <= kMaxRank, "rank {}", list.size());
    for (std::int64_t extent : list) extents[rank++] = extent;
  }
  constexpr std::int64_t operator[](int i) const { return extents[i]; }
  std::int64_t& operator[](int i) { return extents[i]; }
  std::int64_t count() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= extents[i];
    return n;
  }
  bool operator==(const Shape&) const = default;
};
std::string to_string(const Shape& shape);  // "2x3x256x256"

// What an op knows of a value: no device, no memory.
struct ValueSpec {
  Type type = Type::kF32;
  Shape shape;
  bool operator==(const ValueSpec&) const = default;
};

// Name of a value inside its graph.
struct Value {
  int id = -1;
  bool operator==(const Value&) const = default;
};

// Physical order of a rank-4 value, decided by the layout pass. kBlocked is the order the device's
// convolutions run best in: channels in blocks of 16 or 8 (CPU), all channels last (CUDA).
enum class Layout : std::uint8_t { kPlain, kBlocked };

// What a kernel receives: a view of memory. A rank-4 tensor stores element (n, c, h, w) at
//   ((n * ceil(C/B) + c/B) * H + h) * W + w) * B + c % B,   B = channel_block,
// so B = 1 is NCHW, B = C is NHWC and B = 16 is oneDNN's nChw16c. Channels past C are zero.
struct Tensor {
  std::byte* data = nullptr;
  Type type = Type::kF32;
  Shape shape;
  int channel_block = 1;
  int tile = 1;  // of a convolution's weight: weight_tiles.h

  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
  float* f32() const { return as<float>(); }
  explicit operator bool() const { return data != nullptr; }
  // Elements in memory, padding channels included.
  std::int64_t physical_count() const {
    if (shape.rank != 4 || channel_block == 1) return shape.count();
    const std::int64_t blocks = (shape[1] + channel_block - 1) / channel_block;
    return shape[0] * blocks * channel_block * shape[2] * shape[3];
  }
  std::int64_t physical_bytes() const { return physical_count() * type_bytes(type); }
};

}  // namespace models
