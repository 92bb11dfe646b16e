#include "comm/random.h"

#include <gtest/gtest.h>

#include <array>
#include <set>

namespace comm {
namespace {

// Known answers of Random123 for philox4x32-10 (its kat_vectors): counter, key, result.
struct Known {
  std::array<std::uint32_t, 4> counter;
  std::array<std::uint32_t, 2> key;
  std::array<std::uint32_t, 4> result;
};
constexpr Known kKnown[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

TEST(Philox, MatchesThePublishedVectors) {
  for (const Known& known : kKnown) {
    // The purpose enters the key's top byte: a seed that cancels it leaves the vector's key.
    const std::uint64_t seed = (static_cast<std::uint64_t>(known.key[1]) << 32 | known.key[0]) ^
                               static_cast<std::uint64_t>(Purpose::kDropout) << 56;
    const std::uint64_t stream =
        static_cast<std::uint64_t>(known.counter[1]) << 32 | known.counter[0];
    const Random4 r = philox(seed, Purpose::kDropout, stream, known.counter[2], known.counter[3]);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(r.v[i], known.result[i]);
  }
}

TEST(Philox, EveryArgumentMatters) {
  std::set<std::uint32_t> seen;
  const auto add = [&](Random4 r) { EXPECT_TRUE(seen.insert(r.v[0]).second); };
  add(philox(1, Purpose::kFlip, 2, 3, 4));
  add(philox(2, Purpose::kFlip, 2, 3, 4));
  add(philox(1 | std::uint64_t{1} << 40, Purpose::kFlip, 2, 3, 4));
  add(philox(1, Purpose::kCrop, 2, 3, 4));
  add(philox(1, Purpose::kFlip, 2 | std::uint64_t{1} << 40, 3, 4));
  add(philox(1, Purpose::kFlip, 5, 3, 4));
  add(philox(1, Purpose::kFlip, 2, 5, 4));
  add(philox(1, Purpose::kFlip, 2, 3, 5));
}

TEST(Uniform, CoversTheHalfOpenInterval) {
  EXPECT_EQ(uniform(0), 0.0f);
  EXPECT_LT(uniform(0xffffffff), 1.0f);
  EXPECT_EQ(uniform(0x80000000), 0.5f);
  double sum = 0;
  for (std::uint64_t i = 0; i < 4000; ++i) sum += uniform(philox(7, Purpose::kFlip, i, 0, 0).v[1]);
  EXPECT_NEAR(sum / 4000, 0.5, 0.02);
}

}  // namespace
}  // namespace comm
