#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "comm/communicator.h"

namespace comm {

// What a rank says of itself, several times a second. 32 bytes without padding: it travels as bits.
struct Beat {
  std::int64_t step = 0;
  std::int32_t still_ms = 0;    // since it last published progress
  std::int32_t allowed_ms = 0;  // how long it may stand still where it is
  std::uint8_t phase = 0;       // Phase
  std::uint8_t waiting = 0;     // only waits for others
  std::uint8_t left = 0;        // ends in good order: no more beats, none wanted
  std::uint8_t unused[13] = {};
};
static_assert(sizeof(Beat) == 32);

// What a watcher knows of a rank.
struct RankState {
  Beat beat;
  std::chrono::milliseconds silent{0};  // since its last beat came
  bool watched = true;
};

struct Verdict {
  int rank;
  bool silent;  // dead, stopped or cut off; else alive and stuck
  std::chrono::milliseconds since;
};

// Ranks that sent no beat for `limit`; the longest silent one.
std::optional<Verdict> judge_silence(std::span<const RankState> ranks,
                                     std::chrono::milliseconds limit);

// All of it: silence, and ranks that stand still. A rank may stand still as long as any rank is
// allowed to (it may wait for a checkpoint of another); a waiting rank is blamed only when all
// wait. Whoever is silent is blamed before those who stand still because of it.
std::optional<Verdict> judge(std::span<const RankState> ranks, std::chrono::milliseconds limit);

// One line for stderr: who, where, in which phase, since when, what to do.
std::string describe(const Verdict& verdict, std::span<const RankState> ranks,
                     const Communicator& communicator);

}  // namespace comm
