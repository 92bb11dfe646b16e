#include "comm/verdict.h"

#include <fmt/format.h>

#include <algorithm>

#include "comm/progress.h"

namespace comm {
namespace {

using std::chrono::milliseconds;

bool present(const RankState& rank) { return rank.watched && rank.beat.left == 0; }

// Its age now: as it said, and the time since it said so.
milliseconds still(const RankState& rank) { return milliseconds(rank.beat.still_ms) + rank.silent; }

// The one to blame when several stand still: who does not wait, then who is behind, then who
// stands longest.
bool blamed_before(const RankState& a, const RankState& b) {
  if (a.beat.waiting != b.beat.waiting) return a.beat.waiting < b.beat.waiting;
  if (a.beat.step != b.beat.step) return a.beat.step < b.beat.step;
  return still(a) > still(b);
}

}  // namespace

std::optional<Verdict> judge_silence(std::span<const RankState> ranks, milliseconds limit) {
  std::optional<Verdict> worst;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank)
    if (present(ranks[rank]) && ranks[rank].silent > limit &&
        (!worst || ranks[rank].silent > worst->since))
      worst = Verdict{static_cast<int>(rank), true, ranks[rank].silent};
  return worst;
}

std::optional<Verdict> judge(std::span<const RankState> ranks, milliseconds limit) {
  if (const auto silent = judge_silence(ranks, limit)) return silent;
  milliseconds allowed{0};
  bool all_wait = true;
  for (const RankState& rank : ranks) {
    if (!present(rank)) continue;
    allowed = std::max(allowed, milliseconds(rank.beat.allowed_ms));
    all_wait = all_wait && rank.beat.waiting != 0;
  }
  const RankState* stuck = nullptr;
  for (const RankState& rank : ranks) {
    if (!present(rank) || rank.beat.allowed_ms == 0) continue;    // no beat of it yet
    if (all_wait && still(rank) <= allowed) return std::nullopt;  // one still gets on
    if (!all_wait && (rank.beat.waiting != 0 || still(rank) <= allowed)) continue;
    if (stuck == nullptr || blamed_before(rank, *stuck)) stuck = &rank;
  }
  if (stuck == nullptr) return std::nullopt;
  // About to be called silent: it is why the others stand still.
  if (const auto silent = judge_silence(ranks, limit / 3)) return silent;
  return Verdict{static_cast<int>(stuck - ranks.data()), false, still(*stuck)};
}

std::string describe(const Verdict& verdict, std::span<const RankState> ranks,
                     const Communicator& communicator) {
  const RankState& rank = ranks[static_cast<std::size_t>(verdict.rank)];
  const char* phase = phase_name(static_cast<Phase>(rank.beat.phase));
  const double seconds = std::chrono::duration<double>(verdict.since).count();
  const std::string who =
      fmt::format("error[{}] rank {}/{} host {} step {}", static_cast<int>(ExitCode::kPeerLost),
                  verdict.rank, ranks.size(), communicator.host(verdict.rank), rank.beat.step);
  const char* remedy = "nothing is lost since the last checkpoint; start the same command again";
  if (verdict.silent)
    return fmt::format(
        "{}: not heard of for {:.1f} s, last in phase {}: it died, was stopped or is cut off; {}",
        who, seconds, phase, remedy);
  return fmt::format("{}: no progress for {:.1f} s in phase {}{}; {}", who, seconds, phase,
                     rank.beat.waiting != 0 ? ", where all ranks wait for each other" : "", remedy);
}

}  // namespace comm
