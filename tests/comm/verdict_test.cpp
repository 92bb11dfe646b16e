#include "comm/verdict.h"

#include <gtest/gtest.h>

#include "comm/communicator_local.h"
#include "comm/progress.h"

namespace comm {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kLimit{30'000};

RankState rank(std::int32_t still_ms, bool waiting, Phase phase = Phase::kStep) {
  RankState state;
  state.beat.step = 100;
  state.beat.still_ms = still_ms;
  state.beat.allowed_ms = phase == Phase::kStep ? 30'000 : 600'000;
  state.beat.phase = static_cast<std::uint8_t>(phase);
  state.beat.waiting = waiting;
  return state;
}

RankState silent(RankState state, int ms) {
  state.silent = milliseconds(ms);
  return state;
}

int blamed(const std::vector<RankState>& ranks) {
  const auto verdict = judge(ranks, kLimit);
  return verdict ? verdict->rank : -1;
}

TEST(Verdict, NormalRunsAreLeftAlone) {
  EXPECT_EQ(blamed({rank(29'000, false), rank(29'000, true)}), -1);
  EXPECT_EQ(blamed({rank(29'000, true), silent(rank(0, false), 29'000)}), -1);
  EXPECT_EQ(blamed({RankState{}, RankState{}}), -1);  // no beat came yet
}

TEST(Verdict, TheStuckRankIsBlamedNotThoseWhoWait) {
  EXPECT_EQ(blamed({rank(31'000, true), rank(30'900, false), rank(31'200, true)}), 1);
}

TEST(Verdict, WaitingForALongPhaseOfAnotherIsNormal) {
  EXPECT_EQ(blamed({rank(100'000, false, Phase::kCheckpoint), rank(99'000, true)}), -1);
  EXPECT_EQ(blamed({rank(100'000, false, Phase::kCheckpoint), rank(99'000, false)}), -1);
  EXPECT_EQ(blamed({rank(601'000, false, Phase::kCheckpoint), rank(600'500, true)}), 0);
}

TEST(Verdict, SilenceCountsInEveryPhaseAndComesFirst) {
  EXPECT_EQ(blamed({rank(0, false), silent(rank(0, false, Phase::kInit), 30'500)}), 1);
  // All stand still because of rank 2, whose last beat is only a little short of the limit.
  EXPECT_EQ(blamed({rank(30'100, true), rank(30'200, false), silent(rank(100, false), 29'800)}), 2);
}

TEST(Verdict, WhenAllWaitTheOneBehindIsNamed) {
  auto behind = rank(31'000, true);
  behind.beat.step = 99;
  EXPECT_EQ(blamed({rank(32'000, true), behind}), 1);
  EXPECT_EQ(blamed({rank(32'000, true), rank(100, true)}), -1);  // one just got on
}

TEST(Verdict, WhoLeftIsNotMissed) {
  auto left = silent(rank(0, false), 90'000);
  left.beat.left = 1;
  EXPECT_EQ(blamed({rank(0, false), left}), -1);
  auto other = silent(rank(0, false), 90'000);
  other.watched = false;
  EXPECT_EQ(blamed({rank(0, false), other}), -1);
}

TEST(Verdict, TheLineSaysWhoWhereAndWhatToDo) {
  const auto ranks = local_communicators(2);
  const std::vector<RankState> states = {rank(0, false), rank(31'000, false)};
  const std::string stuck = describe({1, false, milliseconds(31'000)}, states, *ranks[0]);
  EXPECT_TRUE(stuck.starts_with("error[76] rank 1/2 host " + ranks[0]->host(1) + " step 100: "));
  EXPECT_NE(stuck.find("31.0 s in phase step"), std::string::npos);
  EXPECT_NE(stuck.find("start the same command again"), std::string::npos);
  EXPECT_EQ(stuck.find('\n'), std::string::npos);
  const std::string dead = describe({1, true, milliseconds(31'000)}, states, *ranks[0]);
  EXPECT_NE(dead.find("not heard of for 31.0 s"), std::string::npos);
}

}  // namespace
}  // namespace comm
