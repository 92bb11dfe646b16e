#pragma once

#include "comm/build.h"  // before Random123: marks its functions for both devices

#include <Random123/philox.h>

#include <cstdint>

namespace comm {

// What a random number is for. The value is part of the key: never renumber.
enum class Purpose : std::uint32_t {
  kInitialization = 1,
  kShuffle = 2,
  kFlip = 3,
  kVerticalFlip = 4,
  kScale = 5,
  kCrop = 6,
  kPhotometric = 7,
  kSizeBucket = 8,
  kDropout = 9,
  kSynthetic = 10,
  kSearch = 11,
};

struct Random4 {
  std::uint32_t v[4];
};

// Counter-based random numbers (Philox4x32-10, Salmon et al., SC'11): a pure function of its
// arguments, so there is no generator state to save, order or share.
RIDGELINE_HD inline Random4 philox(std::uint64_t seed, Purpose purpose, std::uint64_t stream,
                                   std::uint32_t epoch, std::uint32_t draw) {
  // key: seed ^ purpose in the high word's top byte; counter: (stream, epoch, draw)
  const r123::Philox4x32::key_type key = {
      {static_cast<std::uint32_t>(seed),
       static_cast<std::uint32_t>(seed >> 32) ^ (static_cast<std::uint32_t>(purpose) << 24)}};
  const r123::Philox4x32::ctr_type counter = {
      {static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32), epoch, draw}};
  const r123::Philox4x32::ctr_type r = r123::Philox4x32()(counter, key);
  return {{r[0], r[1], r[2], r[3]}};
}

// Uniform in [0, 1), 24 bits.
RIDGELINE_HD inline float uniform(std::uint32_t bits) {
  return static_cast<float>(bits >> 8) * (1.0f / 16777216.0f);
}

}  // namespace comm
