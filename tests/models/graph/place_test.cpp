#include <random>

#include "tests/models/graph/graph_fixture.h"

namespace models::testing {
namespace {

bool overlap(std::int64_t a, std::int64_t a_bytes, std::int64_t b, std::int64_t b_bytes) {
  return a < b + b_bytes && b < a + a_bytes;
}

// No two intervals that live at once share a byte; the arena holds all; returns the sum of sizes.
std::int64_t expect_placed(std::span<const Interval> intervals, std::int64_t arena) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < intervals.size(); ++i) {
    const Interval& a = intervals[i];
    EXPECT_GE(a.offset, 0);
    EXPECT_EQ(a.offset % 64, 0);
    EXPECT_LE(a.offset + a.bytes, arena);
    sum += (a.bytes + 63) / 64 * 64;
    for (std::size_t j = 0; j < i; ++j) {
      const Interval& b = intervals[j];
      if (a.last < b.first || b.last < a.first) continue;
      EXPECT_FALSE(overlap(a.offset, a.bytes, b.offset, b.bytes)) << i << " and " << j;
    }
  }
  return sum;
}

// The most that lives at one step: no placement can be smaller.
std::int64_t peak(std::span<const Interval> intervals) {
  std::int64_t most = 0;
  for (const Interval& at : intervals) {
    std::int64_t live = 0;
    for (const Interval& i : intervals) {
      if (i.first <= at.first && at.first <= i.last) live += (i.bytes + 63) / 64 * 64;
    }
    most = std::max(most, live);
  }
  return most;
}

TEST(PlaceIntervals, NeverOverlapWhileBothLive) {
  std::mt19937 random(3);
  for (int round = 0; round < 60; ++round) {
    std::vector<Interval> intervals;
    for (int i = 0; i < 40; ++i) {
      const int first = static_cast<int>(random() % 50);
      intervals.push_back({static_cast<std::int64_t>(random() % 5000) + 1, first,
                           first + static_cast<int>(random() % 12)});
    }
    const std::int64_t arena = place_intervals(intervals);
    const std::int64_t sum = expect_placed(intervals, arena);
    EXPECT_LE(arena, sum);
    EXPECT_GE(arena, peak(intervals));
    EXPECT_LE(arena, 2 * peak(intervals));
  }
}

TEST(PlaceIntervals, ReusesMemory) {
  std::vector<Interval> chain;  // each lives with its neighbour only
  for (int i = 0; i < 10; ++i) chain.push_back({1024, i, i + 1});
  EXPECT_EQ(place_intervals(chain), 2048);
  std::vector<Interval> apart = {{100, 0, 0}, {100, 1, 1}};
  EXPECT_EQ(place_intervals(apart), 128);
  std::vector<Interval> touching = {{64, 0, 1}, {64, 1, 2}};  // both live at step 1
  EXPECT_EQ(place_intervals(touching), 128);
  EXPECT_EQ(place_intervals({}), 0);
}

TEST(PlaceIntervals, IsDeterministic) {
  std::vector<Interval> a = {{64, 0, 5}, {64, 0, 5}, {128, 3, 9}, {64, 6, 7}}, b = a;
  place_intervals(a);
  place_intervals(b);
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].offset, b[i].offset);
}

TEST(Place, ValuesThatLiveTogetherAreApart) {
  const Shape shape = {1, 8, 5, 5};
  Graph graph;
  const Value x = graph.input("x", {Type::kF32, shape});
  Value y = x;
  for (int i = 0; i < 10; ++i) {
    const TestOpOptions saves = {.saved = {{0}, i % 2 ? std::vector{0} : std::vector<int>{}}};
    const Value z = apply(graph, "c", {y, weight(graph, std::to_string(i), shape)}, saves);
    y = i % 3 == 2 ? apply(graph, "add", {z, y}) : z;
    if (i == 4) graph.output("middle", y);
  }
  sum_loss(graph, "loss", y);
  const Plan p = plan(graph, {});

  // Lifetimes by brute force from the steps, independent of PlanValue::first and last.
  std::vector<Interval> live(p.values.size(), Interval{0, -1, -1});
  const int end = static_cast<int>(p.steps.size());
  const auto touch = [&](int v, int step) {
    if (v < 0) return;
    if (live[v].first < 0) live[v].first = step;
    live[v].last = step;
  };
  for (int s = 0; s < end; ++s) {
    const PlanStep& step = p.steps[s];
    for (const auto* list : {&step.inputs, &step.outputs, &step.doutputs, &step.dinputs}) {
      for (int v : *list) touch(v, s);
    }
  }
  for (const auto& named : p.graph->outputs()) touch(named.value.id, end);
  for (const auto& named : p.graph->losses()) touch(named.value.id, end);
  std::vector<Interval> arena;
  for (std::size_t v = 0; v < live.size(); ++v) {
    if (p.values[v].storage != Storage::kArena || live[v].first < 0) continue;
    arena.push_back(
        {p.values[v].spec.shape.count() * 4, live[v].first, live[v].last, p.values[v].offset});
  }
  EXPECT_GT(arena.size(), 20u);
  const std::int64_t sum = expect_placed(arena, p.arena_bytes);
  EXPECT_LT(p.arena_bytes, sum);
}

}  // namespace
}  // namespace models::testing
