#include <random>

#include "tests/models/graph/graph_fixture.h"

namespace models::testing {
namespace {

std::vector<Parameter> random_parameters(unsigned seed, int count, std::int64_t largest) {
  std::mt19937 random(seed);
  std::vector<Parameter> parameters;
  for (int i = 0; i < count; ++i) {
    const auto size = static_cast<std::int64_t>(random() % static_cast<unsigned>(largest)) + 1;
    parameters.push_back({"p" + std::to_string(i), {size}});
  }
  return parameters;
}

std::int64_t whole_blocks(std::int64_t n) {
  return (n + kBlockElements - 1) / kBlockElements * kBlockElements;
}

void expect_well_formed(const ParameterLayout& layout, int ranks) {
  std::int64_t index = 0, offset = 0;
  for (const Bucket& bucket : layout.buckets) {
    EXPECT_EQ(bucket.begin, index);
    EXPECT_EQ(bucket.offset, offset);
    EXPECT_GT(bucket.size, 0);
    EXPECT_EQ(bucket.size % kBlockElements, 0);
    EXPECT_EQ(bucket.shard_elements % kBlockElements, 0);
    // ceil(blocks / ranks): enough for all, and not a block more
    EXPECT_GE(bucket.shard_elements * ranks, bucket.size);
    EXPECT_LT((bucket.shard_elements - kBlockElements) * ranks, bucket.size);
    index += bucket.size;
    offset += bucket.shard_elements * ranks;
  }
  EXPECT_EQ(layout.gradient_elements, offset);
  EXPECT_GE(layout.parameter_elements, offset);
  std::int64_t at = 0;
  int bucket = 0;
  for (const ParameterSlot& slot : layout.slots) {
    EXPECT_EQ(slot.begin, at) << slot.parameter.name;
    EXPECT_EQ(slot.begin % kBlockElements, 0);
    EXPECT_EQ(slot.size, slot.parameter.shape.count());
    at += whole_blocks(slot.size);
    if (slot.bucket < 0) {
      EXPECT_GE(slot.offset, layout.gradient_elements);
      EXPECT_LE(slot.offset + slot.size, layout.parameter_elements);
      continue;
    }
    EXPECT_GE(slot.bucket, bucket) << "tensors lie in the order of their buckets";
    bucket = slot.bucket;
    const Bucket& b = layout.buckets[slot.bucket];
    EXPECT_GE(slot.begin, b.begin);
    EXPECT_LE(slot.begin + slot.size, b.begin + b.size) << "no tensor straddles buckets";
    EXPECT_EQ(slot.offset - b.offset, slot.begin - b.begin);
  }
}

TEST(ParameterLayout, IsWellFormedForAnyRankCount) {
  for (unsigned seed = 0; seed < 12; ++seed) {
    const auto trained =
        random_parameters(seed, 1 + static_cast<int>(seed) * 7, seed % 3 == 0 ? 3'000 : 200'000);
    const auto fixed = random_parameters(seed + 100, 3, 5'000);
    std::vector<Parameter> renamed;
    for (Parameter p : fixed) {
      p.name = "fixed" + p.name;
      renamed.push_back(p);
    }
    const ParameterLayout one = make_parameter_layout(trained, renamed, 1);
    for (int ranks = 1; ranks <= 8; ++ranks) {
      SCOPED_TRACE(std::to_string(seed) + " on " + std::to_string(ranks));
      const ParameterLayout layout = make_parameter_layout(trained, renamed, ranks);
      expect_well_formed(layout, ranks);
      EXPECT_GE(layout.buckets.size(), 1u);
      EXPECT_LE(layout.buckets.size(), 4u);
      // the flat index does not know how many ranks there are
      ASSERT_EQ(layout.slots.size(), one.slots.size());
      ASSERT_EQ(layout.buckets.size(), one.buckets.size());
      for (std::size_t i = 0; i < one.slots.size(); ++i) {
        EXPECT_EQ(layout.slots[i].begin, one.slots[i].begin);
        EXPECT_EQ(layout.slots[i].bucket, one.slots[i].bucket);
        EXPECT_EQ(layout.slots[i].parameter.name, one.slots[i].parameter.name);
      }
    }
  }
}

TEST(ParameterLayout, SmallModelsAreOneBucket) {
  const std::vector<Parameter> small = {{"a", {1000}}, {"b", {200'000}}};
  EXPECT_EQ(make_parameter_layout(small, {}, 4).buckets.size(), 1u);
}

TEST(ParameterLayout, LargeModelsAreFourEqualBuckets) {
  const std::vector<Parameter> parameters(100, Parameter{"", {50 * kBlockElements}});
  std::vector<Parameter> named = parameters;
  for (std::size_t i = 0; i < named.size(); ++i) named[i].name = std::to_string(i);
  const ParameterLayout layout = make_parameter_layout(named, {}, 1);
  ASSERT_EQ(layout.buckets.size(), 4u);
  for (const Bucket& bucket : layout.buckets) {
    EXPECT_EQ(bucket.size, 25 * 50 * kBlockElements);
  }
}

TEST(ParameterLayout, ATensorLargerThanABucketKeepsItsOwn) {
  const std::vector<Parameter> parameters = {
      {"small", {1024}}, {"huge", {4'000'000}}, {"next", {1024}}, {"last", {300'000}}};
  const ParameterLayout layout = make_parameter_layout(parameters, {}, 3);
  expect_well_formed(layout, 3);
}

TEST(ParameterLayout, CountersAndNothing) {
  Parameter counter{"n", {1}, ParameterKind::kCounter};
  const ParameterLayout layout = make_parameter_layout({}, {counter}, 2);
  EXPECT_TRUE(layout.slots.empty());
  EXPECT_EQ(layout.parameter_elements, 0);
  EXPECT_THROW(layout.slot("n"), comm::Error);
}

// Six convolutions of 256 Ki elements: the last one's gradient is ready first.
const Shape kLarge = {1, 64, 64, 64};

Graph chain(int depth) {
  Graph graph;
  Value y = graph.input("x", {Type::kF32, kLarge});
  for (int i = 0; i < depth; ++i) {
    y = apply(graph, "c" + std::to_string(i), {y, weight(graph, std::to_string(i), kLarge)});
  }
  sum_loss(graph, "loss", y);
  return graph;
}

TEST(Buckets, AreInTheOrderInWhichGradientsAreReady) {
  const Plan p = plan(chain(8), {});
  std::string names;
  for (const ParameterSlot& slot : p.layout->slots) names += slot.parameter.name;
  EXPECT_EQ(names, "76543210");
  ASSERT_EQ(p.layout->buckets.size(), 4u);
}

TEST(Buckets, MarkersStandWhereTheyMust) {
  const Plan p = plan(chain(8), {});
  EXPECT_EQ(order(p),
            "n3 f:c0 f:c1 n2 f:c2 f:c3 n1 f:c4 f:c5 n0 f:c6 f:c7 f:sum "
            "b:sum b:c7 b:c6 r0 b:c5 b:c4 r1 b:c3 b:c2 r2 b:c1 b:c0 r3");
  for (const PlanStep& step : p.steps) EXPECT_EQ(step.stream, step.bucket >= 0 ? 1 : 0);
}

// ready(k) after the last touch of any gradient of bucket k, needed(k) before its first read.
TEST(Buckets, MarkersEncloseEveryUse) {
  Graph graph = chain(7);
  const Value again =
      apply(graph, "again", {graph.input("x", {Type::kF32, kLarge}), weight(graph, "6", kLarge)});
  sum_loss(graph, "second", apply(graph, "late", {again, weight(graph, "0", kLarge)}));
  const Plan p = plan(graph, {});
  std::vector<bool> needed(p.layout->buckets.size(), false), ready = needed;
  for (const PlanStep& step : p.steps) {
    if (step.kind == StepKind::kBucketNeeded) needed[step.bucket] = true;
    if (step.kind == StepKind::kBucketReady) ready[step.bucket] = true;
    if (step.bucket >= 0) continue;
    for (const auto* list : {&step.inputs, &step.dinputs}) {
      for (int v : *list) {
        if (v < 0 || p.values[v].parameter < 0) continue;
        const int b = p.layout->slot(p.graph->parameters()[p.values[v].parameter].name).bucket;
        EXPECT_TRUE(needed[b] || p.values[v].storage == Storage::kGradient);
        EXPECT_FALSE(ready[b] && p.values[v].storage == Storage::kGradient);
      }
    }
  }
  for (std::size_t b = 0; b < ready.size(); ++b) EXPECT_TRUE(ready[b] && needed[b]);
}

TEST(Buckets, UntrainedTensorsLieBehind) {
  Graph graph;
  const Value x = graph.input("x", {Type::kF32, kLarge});
  const Value y = apply(graph, "a", {x, weight(graph, "frozen", kLarge, false)});
  sum_loss(graph, "loss", apply(graph, "b", {y, weight(graph, "w", kLarge)}));
  weight(graph, "unused", {3});
  const Plan p = plan(graph, {});
  EXPECT_EQ(p.layout->slot("w").bucket, 0);
  EXPECT_LT(p.layout->slot("frozen").bucket, 0);
  EXPECT_LT(p.layout->slot("unused").bucket, 0);
}

TEST(Buckets, StatisticsTravelWithGradients) {
  Graph graph;
  const Value x = graph.input("x", {Type::kF32, kLarge});
  const Value y = apply(graph, "norm", {x, weight(graph, "w", kLarge)});
  graph.statistic(graph.parameter({"mean", kLarge, ParameterKind::kStatistic}), y);
  sum_loss(graph, "loss", apply(graph, "b", {y}));
  const Plan p = plan(graph, {});
  EXPECT_GE(p.layout->slot("mean").bucket, 0);
}

// A second image size and evaluation use the parameters where the first plan put them.
TEST(Buckets, PlansShareALayout) {
  const Plan first = plan(chain(8), {.ranks = 4});
  PlanOptions options{.ranks = 4, .training = false, .layout = first.layout};
  const Plan evaluation = plan(chain(8), options);
  EXPECT_EQ(evaluation.layout, first.layout);
  EXPECT_EQ(order(evaluation), "f:c0 f:c1 f:c2 f:c3 f:c4 f:c5 f:c6 f:c7 f:sum");
  options.training = true;
  EXPECT_EQ(order(plan(chain(8), options)), order(first));
}

}  // namespace
}  // namespace models::testing
