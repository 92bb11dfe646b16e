#include "models/graph/value.h"

#include <fmt/format.h>

namespace models {

std::string to_string(Type type) {
  switch (type) {
    case Type::kF32: return "f32";
    case Type::kI32: return "i32";
    case Type::kI64: return "i64";
    case Type::kU8: return "u8";
    case Type::kBF16: return "bf16";
  }
  return "?";
}

std::string to_string(const Shape& shape) {
  if (shape.rank == 0) return "scalar";
  std::string text = std::to_string(shape[0]);
  for (int i = 1; i < shape.rank; ++i) text += "x" + std::to_string(shape[i]);
  return text;
}

}  // namespace models
