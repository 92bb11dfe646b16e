#include "comm/bf16.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace comm::testing {
namespace {

float value_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }

TEST(Bf16, EveryValueComesBack) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const Bf16 value = Bf16::from_bits(static_cast<std::uint16_t>(bits));
    const float wide = value;
    ASSERT_EQ(std::bit_cast<std::uint32_t>(wide), bits << 16);
    if (std::isnan(wide)) {
      ASSERT_TRUE(std::isnan(float{Bf16(wide)})) << bits;
      ASSERT_EQ(Bf16(wide).bits(), bits | 0x40) << bits;
    } else {
      ASSERT_EQ(Bf16(wide).bits(), bits);
    }
  }
}

// Between two neighbours: below the middle down, above it up, in the middle to the even one.
TEST(Bf16, RoundsToTheNearestAndTiesToEven) {
  for (std::uint32_t bits = 0; bits < 0x7F80; ++bits) {
    for (std::uint32_t sign : {0u, 0x8000u}) {
      const std::uint32_t low = bits | sign, first = low << 16;
      ASSERT_EQ(Bf16(value_of(first + 1)).bits(), low);
      ASSERT_EQ(Bf16(value_of(first + 0x7FFF)).bits(), low);
      ASSERT_EQ(Bf16(value_of(first + 0x8000)).bits(), low + low % 2);
      ASSERT_EQ(Bf16(value_of(first + 0x8001)).bits(), low + 1);
      ASSERT_EQ(Bf16(value_of(first + 0xFFFF)).bits(), low + 1);
    }
  }
}

TEST(Bf16, KnownValues) {
  EXPECT_EQ(float{Bf16(1.0f)}, 1.0f);
  EXPECT_EQ(float{Bf16(-0.0f)}, 0.0f);
  EXPECT_TRUE(std::signbit(float{Bf16(-0.0f)}));
  EXPECT_EQ(float{Bf16(256.0f + 1.0f)}, 256.0f);  // 2^8 + 1: halfway, 256 is even
  EXPECT_EQ(float{Bf16(256.0f + 3.0f)}, 260.0f);
  EXPECT_EQ(float{Bf16(3.14159265f)}, 3.140625f);
}

TEST(Bf16, KeepsWhatIsNoNumber) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(float{Bf16(inf)}, inf);
  EXPECT_EQ(float{Bf16(-inf)}, -inf);
  EXPECT_EQ(float{Bf16(std::numeric_limits<float>::max())}, inf);  // beyond the largest: rounds up
  EXPECT_TRUE(std::isnan(float{Bf16(std::numeric_limits<float>::quiet_NaN())}));
  EXPECT_TRUE(std::isnan(float{Bf16(value_of(0x7F800001u))}));  // payload in the lower half only
  EXPECT_TRUE(std::isnan(float{Bf16(value_of(0xFFFFFFFFu))}));
}

// The bound that the tolerances of other tests are derived from.
TEST(Bf16, ErrsByLessThanTwoToTheMinusEight) {
  for (std::uint32_t f = 0x00800000u; f < 0x7F000000u; f += 12347) {
    const float value = value_of(f);
    ASSERT_LE(std::abs(float{Bf16(value)} - value), std::ldexp(value, -8)) << value;
  }
}

// Arithmetic happens in float; only stores round.
TEST(Bf16, ComputesInFloat) {
  Bf16 sum = 0.0f;
  const Bf16 a = 1.0f, b = 0.00390625f;  // 2^-8
  static_assert(std::is_same_v<decltype(a + b), float>);
  EXPECT_EQ(a + b, 1.00390625f);
  sum = a + b;
  EXPECT_EQ(float{sum}, 1.0f);
}

}  // namespace
}  // namespace comm::testing
