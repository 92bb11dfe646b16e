#pragma once

#include <bit>
#include <cstdint>

#include "comm/build.h"

namespace comm {

// bfloat16: the upper half of an fp32 number, so its range with 8 significant bits (the relative
// error of one rounding is at most 2^-8). For storage only: it converts to float where it is read
// and, rounding to the nearest and ties to even, where it is written. Infinities and the sign of
// zero are kept; what is not a number stays so. Integer arithmetic, so the same bits everywhere.
class Bf16 {
 public:
  Bf16() = default;
  RIDGELINE_HD constexpr Bf16(float value) : bits_(rounded(std::bit_cast<std::uint32_t>(value))) {}
  RIDGELINE_HD constexpr operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits_) << 16);
  }

  RIDGELINE_HD static constexpr Bf16 from_bits(std::uint16_t bits) {
    Bf16 value;
    value.bits_ = bits;
    return value;
  }
  RIDGELINE_HD constexpr std::uint16_t bits() const { return bits_; }

 private:
  RIDGELINE_HD static constexpr std::uint16_t rounded(std::uint32_t f) {
    const bool is_nan = (f & 0x7FFFFFFFu) > 0x7F800000u;
    // The quiet bit keeps a payload of low bits alone from becoming an infinity.
    if (is_nan) return static_cast<std::uint16_t>(f >> 16 | 0x40u);
    return static_cast<std::uint16_t>((f + 0x7FFFu + (f >> 16 & 1u)) >> 16);
  }

  std::uint16_t bits_;
};
static_assert(sizeof(Bf16) == 2);

}  // namespace comm
