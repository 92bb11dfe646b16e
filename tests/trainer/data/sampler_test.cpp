#include "trainer/data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "trainer/data/size_buckets.h"

namespace trainer {
namespace {

TEST(EpochPermutation, IsAPermutationThatDependsOnSeedAndEpoch) {
  for (const std::int64_t size : {1, 2, 7, 1000}) {
    auto order = epoch_permutation(size, 3, 5);
    EXPECT_EQ(order, epoch_permutation(size, 3, 5));
    if (size == 1000) {
      EXPECT_NE(order, epoch_permutation(size, 3, 6));
      EXPECT_NE(order, epoch_permutation(size, 4, 5));
    }
    std::ranges::sort(order);
    for (std::int64_t i = 0; i < size; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
  }
}

TEST(EpochPermutation, EveryPlaceIsEquallyLikely) {
  std::map<std::vector<std::uint32_t>, int> counts;
  constexpr int kTrials = 6000;
  for (std::uint32_t epoch = 0; epoch < kTrials; ++epoch) ++counts[epoch_permutation(3, 1, epoch)];
  ASSERT_EQ(counts.size(), 6u);
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, 1000, 5 * 29);  // 5 sigma
}

TEST(MicroBatches, AreCutContiguouslyOverRanks) {
  for (const int ranks : {1, 2, 3, 4, 8}) {
    for (const std::int64_t count : {8, 13, 24}) {
      std::int64_t next = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const MicroBatchRange range = micro_batches_of_rank(count, rank, ranks);
        EXPECT_EQ(range.begin, next);
        EXPECT_GE(range.end - range.begin, count / ranks);
        next = range.end;
      }
      EXPECT_EQ(next, count);
    }
  }
}

class SamplerEpochs : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(SamplerEpochs, EverySampleOnceAnEpochOnAnyRankCount) {
  constexpr std::int64_t kSize = 37, kBatch = 8, kMicroBatch = 1, kEpochs = 3;
  for (const int ranks : {1, 2, 3, 4, 8}) {
    std::map<std::uint32_t, std::multiset<std::int64_t>> seen;
    for (int rank = 0; rank < ranks; ++rank) {
      Sampler sampler(
          {.size = kSize, .batch = kBatch, .micro_batch = kMicroBatch, .seed = GetParam()});
      const MicroBatchRange range = micro_batches_of_rank(sampler.num_micro_batches(), rank, ranks);
      for (std::int64_t step = 0; step < sampler.steps_of_epochs(kEpochs); ++step) {
        const StepDraws draws = sampler.step(step);
        for (std::int64_t i = range.begin * kMicroBatch; i < range.end * kMicroBatch; ++i) {
          const Draw& draw = draws.draws[static_cast<std::size_t>(i)];
          seen[draw.epoch].insert(draw.sample);
        }
      }
    }
    for (std::uint32_t epoch = 0; epoch < kEpochs; ++epoch) {
      EXPECT_EQ(seen[epoch].size(), static_cast<std::size_t>(kSize)) << ranks << " ranks";
      EXPECT_EQ(std::set(seen[epoch].begin(), seen[epoch].end()).size(),
                static_cast<std::size_t>(kSize));
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, SamplerEpochs, ::testing::Values(0u, 1u, 12345u, ~0ull));

TEST(Sampler, IsAPureFunctionOfTheStep) {
  const SamplerOptions options = {.size = 11, .batch = 4, .micro_batch = 2, .seed = 9};
  Sampler forward(options), backward(options);
  std::vector<StepDraws> steps;
  for (std::int64_t t = 0; t < 20; ++t) steps.push_back(forward.step(t));
  for (std::int64_t t = 20; t-- > 0;)
    EXPECT_EQ(backward.step(t).draws, steps[static_cast<std::size_t>(t)].draws) << t;
  Sampler other({.size = 11, .batch = 4, .micro_batch = 2, .seed = 10});
  EXPECT_NE(other.step(0).draws, steps[0].draws);
}

TEST(Sampler, WithoutShuffleFollowsTheFiles) {
  Sampler sampler({.size = 3, .batch = 4, .micro_batch = 4, .shuffle = false});
  EXPECT_EQ(sampler.step(0).draws, (std::vector<Draw>{{0, 0}, {1, 0}, {2, 0}, {0, 1}}));
  EXPECT_EQ(sampler.step(1).draws, (std::vector<Draw>{{1, 1}, {2, 1}, {0, 2}, {1, 2}}));
}

TEST(Sampler, StepsOfEpochsRoundUp) {
  const Sampler sampler({.size = 10, .batch = 4});
  EXPECT_EQ(sampler.steps_of_epochs(1), 3);
  EXPECT_EQ(sampler.steps_of_epochs(2), 5);
  EXPECT_DOUBLE_EQ(sampler.epochs_of_steps(5), 2.0);
}

TEST(Sampler, RefusesWhatItCannotCut) {
  EXPECT_THROW(Sampler({.size = 0}), comm::Error);
  EXPECT_THROW(Sampler({.size = 4, .batch = 4, .micro_batch = 3}), comm::Error);
}

TEST(SamplerBuckets, EveryStepIsOfOneBucketAndNoneIsLost) {
  std::vector<int> bucket_of(50);
  for (std::size_t i = 0; i < 50; ++i) bucket_of[i] = i % 5 == 0 ? 1 : i == 3 ? 2 : 0;
  const SamplerOptions options = {.size = 50, .batch = 4, .seed = 2, .bucket_of = bucket_of};
  Sampler sampler(options), again(options);
  std::map<std::pair<std::int64_t, std::uint32_t>, int> drawn;
  std::set<int> buckets;
  constexpr std::int64_t kSteps = 200;
  for (std::int64_t t = 0; t < kSteps; ++t) {
    const StepDraws step = sampler.step(t);
    ASSERT_EQ(step.draws.size(), 4u);
    buckets.insert(step.bucket);
    for (const Draw& draw : step.draws) {
      EXPECT_EQ(bucket_of[static_cast<std::size_t>(draw.sample)], step.bucket);
      EXPECT_EQ((++drawn[{draw.sample, draw.epoch}]), 1);
    }
  }
  EXPECT_EQ(buckets, (std::set<int>{0, 1, 2}));  // sample 3, alone in its bucket, is trained on
  // What is drawn but not emitted fits into the queues.
  std::int64_t early = 0;
  for (const auto& [key, count] : drawn) early += key.second < 15;
  EXPECT_GE(early, 15 * 50 - 3 * 3);
  for (const std::int64_t t : {150, 7, 199, 0})
    EXPECT_EQ(again.step(t).draws, sampler.step(t).draws) << t;
}

TEST(SizeBuckets, LeastPadding) {
  const std::vector<Size> buckets = {{64, 64}, {96, 64}, {64, 96}, {128, 128}};
  EXPECT_EQ(least_padding_bucket(buckets, {640, 480}), 1);
  EXPECT_EQ(least_padding_bucket(buckets, {480, 640}), 2);
  EXPECT_EQ(least_padding_bucket(buckets, {60, 60}), 0);
  EXPECT_EQ(least_padding_bucket(buckets, {500, 500}), 3);  // as much padding, rescaled less
}

TEST(EvaluationDraws, EverySampleOnceWithoutPaddingDuplicates) {
  const std::vector<int> bucket_of = {0, 1, 0, 0, 1, 0, 0};
  const auto draws = evaluation_draws(7, 2, bucket_of);
  ASSERT_EQ(draws.size(), 4u);
  EXPECT_EQ(draws[2].samples, (std::vector<std::int64_t>{6}));
  EXPECT_EQ(draws[3].bucket, 1);
  EXPECT_EQ(draws[3].samples, (std::vector<std::int64_t>{1, 4}));
  for (const int ranks : {1, 2, 3, 4, 8}) {
    std::multiset<std::int64_t> seen;
    for (int rank = 0; rank < ranks; ++rank) {
      const auto range = micro_batches_of_rank(4, rank, ranks);
      for (auto m = range.begin; m < range.end; ++m)
        for (const auto id : draws[static_cast<std::size_t>(m)].samples) seen.insert(id);
    }
    EXPECT_EQ(seen, (std::multiset<std::int64_t>{0, 1, 2, 3, 4, 5, 6}));
  }
}

}  // namespace
}  // namespace trainer
