#include "trainer/optim/sharded_optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "comm/gpu.h"
#include "tests/trainer/optim/optim_fixture.h"

namespace trainer::testing {
namespace {

Rule rule(const std::string& name, DecayMode mode, double l2) {
  Rule made;
  made.match.name = name;
  made.mode = mode;
  made.l2 = l2;
  return made;
}

struct Case {
  std::string name;
  OptimizerConfig rule;
  bool clip = false;
  bool ema = false;
};

// All modes, an exemption, L1 and a learning-rate scale at once: what flat buffers could mix up.
OptimizerSetup setup_of(const Case& c, std::int64_t num_micro_batches) {
  OptimizerSetup setup;
  setup.rule = c.rule;
  setup.num_micro_batches = num_micro_batches;
  setup.regularization.l2 = 0.02;
  std::vector<Rule> rules{
      rule("*.conv1.weight", DecayMode::kLoss, 0.05), rule("*.conv2.*", DecayMode::kDecoupled, 0.3),
      rule("*bias", DecayMode::kCoupled, 0.0), rule("fpn.*", DecayMode::kCoupled, 0.01)};
  rules[2].lr_scale = 2.0;
  rules[3].l1 = 0.1;
  setup.regularization.rules = rules;
  if (c.clip) setup.clip.norm = 5.0;
  if (c.ema) setup.ema.decay = 0.9;
  return setup;
}

OptimizerConfig rule_of(OptimizerName name, double momentum = 0, bool nesterov = false) {
  OptimizerConfig made;
  made.name = name;
  made.momentum = momentum;
  made.nesterov = nesterov;
  if (name == OptimizerName::kLars) made.trust = 0.1;
  return made;
}

std::vector<Case> cases() {
  const std::pair<std::string, OptimizerConfig> rules[] = {
      {"Sgd", rule_of(OptimizerName::kSgd)},
      {"Momentum", rule_of(OptimizerName::kSgd, 0.9)},
      {"Nesterov", rule_of(OptimizerName::kSgd, 0.9, true)},
      {"Adam", rule_of(OptimizerName::kAdam)},
      {"Adamw", rule_of(OptimizerName::kAdamw)},
      {"Adagrad", rule_of(OptimizerName::kAdagrad)},
      {"Rmsprop", rule_of(OptimizerName::kRmsprop, 0.9)},
      {"Lars", rule_of(OptimizerName::kLars, 0.9)}};
  std::vector<Case> all;
  for (const auto& [name, config] : rules) {
    const bool adam = config.name == OptimizerName::kAdam;
    all.push_back({name, config, false, adam});
    all.push_back({name + "Clipped", config, true, !adam && config.momentum > 0});
  }
  return all;
}

class ShardedOptimizerRanks : public ::testing::TestWithParam<Case> {};

TEST_P(ShardedOptimizerRanks, SameBitsOnAnyNumberOfRanks) {
  const OptimizerSetup setup = setup_of(GetParam(), 8);
  const Snapshot alone = train(setup, 1);
  EXPECT_EQ(alone.states.size(),
            6 * state_names(setup.rule).size() + (setup.ema.decay > 0 ? 7 : 0));
  for (int ranks : {2, 3, 4, 8}) {
    expect_same_bits(alone, train(setup, ranks), std::to_string(ranks) + " ranks");
  }
}

TEST_P(ShardedOptimizerRanks, SameBitsWhereRanksShareMicroBatchesUnevenly) {
  const OptimizerSetup setup = setup_of(GetParam(), 24);
  const Snapshot alone = train(setup, 1, {0, 2});
  for (int ranks : {3, 5}) {
    expect_same_bits(alone, train(setup, ranks, {0, 2}), std::to_string(ranks) + " ranks");
  }
}

// The state of W ranks, continued by W' ranks.
TEST_P(ShardedOptimizerRanks, StateMovesToAnotherNumberOfRanks) {
  const OptimizerSetup setup = setup_of(GetParam(), 8);
  const Snapshot whole = train(setup, 2);
  const Snapshot half = train(setup, 3, {0, 3});
  expect_same_bits(whole, train(setup, 4, {3, 6}, &half), "3 ranks, then 4");
}

// On the software GPU, which rounds as CPUs do, these are a CPU's bits.
TEST_P(ShardedOptimizerRanks, SameBitsOnAGpu) {
  const comm::GpuSurvey survey = comm::survey_gpus();
  if (comm::gpu_libraries().runtime == 0) GTEST_SKIP() << "this program has no CUDA";
  if (survey.gpus.empty()) GTEST_SKIP() << survey.problem;
  const comm::Device gpu{comm::DeviceKind::kCuda, 0};
  const OptimizerSetup setup = setup_of(GetParam(), 4);
  const Snapshot alone = train(setup, 1, {}, nullptr, gpu);
  if (survey.driver_release == "software") expect_same_bits(train(setup, 1), alone, "CPU and GPU");
  expect_same_bits(alone, train(setup, 3, {}, nullptr, gpu), "3 ranks");
  const Snapshot half = train(setup, 2, {0, 3}, nullptr, gpu);
  expect_same_bits(alone, train(setup, 1, {3, 6}, &half, gpu), "2 ranks, then 1");
}

INSTANTIATE_TEST_SUITE_P(Rules, ShardedOptimizerRanks, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

const Case kMomentum{"", rule_of(OptimizerName::kSgd, 0.9), false, true};

TEST(ShardedOptimizer, LayoutIsAsAwkwardAsTheTestsNeed) {
  const auto layout = models::make_parameter_layout(awkward_parameters(), {}, 8);
  ASSERT_GE(layout.buckets.size(), 2u);
  const auto& big = layout.slot("body.conv1.weight");
  EXPECT_GT(big.size, 2 * layout.buckets[big.bucket].shard_elements);  // cut inside
  const auto& last = layout.buckets.back();
  EXPECT_LT(last.size, 8 * last.shard_elements);  // ranks without a share
}

TEST(ShardedOptimizer, FastIsCloseToExactOverManySteps) {
  for (bool clip : {false, true}) {
    Case c = kMomentum;
    c.clip = clip;
    OptimizerSetup setup = setup_of(c, 8);
    const Snapshot exact = train(setup, 1, {0, 12});
    setup.exact = false;
    for (int ranks : {1, 2, 3, 8}) {
      const Snapshot fast = train(setup, ranks, {0, 12});
      double worst = 0;
      for (const auto& [name, values] : exact.parameters) {
        for (std::size_t i = 0; i < values.size(); ++i) {
          worst = std::max<double>(worst, std::abs(values[i] - fast.parameters.at(name)[i]));
        }
      }
      EXPECT_LT(worst, 2e-6) << ranks;
      if (ranks == 3) {
        EXPECT_GT(worst, 0);  // another order: these tests can tell
      }
      EXPECT_NEAR(exact.report.grad_norm, fast.report.grad_norm, 1e-5 * exact.report.grad_norm);
    }
  }
}

TEST(ShardedOptimizer, ReportsTheNormsOfWholeTensors) {
  const OptimizerSetup setup = setup_of(kMomentum, 8);
  const Snapshot run = train(setup, 3);
  const Snapshot before = train(setup, 3, {0, 5});  // the last update
  double squares = 0;
  for (float w : before.parameters.at("body.conv1.weight")) squares += double{w} * w;
  const GroupReport* group = nullptr;
  for (const GroupReport& g : run.report.groups) {
    if (g.group == "rule 0") group = &g;
    EXPECT_NE(g.group, "frozen");
    EXPECT_NE(g.group, "statistic");
  }
  ASSERT_NE(group, nullptr);
  EXPECT_NEAR(group->weight_norm, std::sqrt(squares), 1e-9 * std::sqrt(squares));
  const double lambda = 0.05 * (1.0 - 0.1 * 5);  // of the last step
  EXPECT_NEAR(group->penalty, 0.5 * lambda * squares, 1e-9 * squares);
  EXPECT_GT(group->update_ratio, 0);
  double sum = 0;
  for (const GroupReport& g : run.report.groups) sum += g.penalty;
  EXPECT_DOUBLE_EQ(run.report.l2_penalty, sum);
}

TEST(ShardedOptimizer, SparsityCountsNoPadding) {
  OptimizerSetup setup = setup_of(kMomentum, 8);
  const Snapshot run = train(setup, 2);
  std::size_t zeros = 0;
  const std::vector<float>& sparse = run.parameters.at("fpn.weight");
  for (float w : sparse) zeros += w == 0.0f;
  for (const GroupReport& g : run.report.groups) {
    const double expected = static_cast<double>(zeros) / static_cast<double>(sparse.size());
    EXPECT_DOUBLE_EQ(g.sparsity, g.group == "rule 3" ? expected : 0.0) << g.group;
  }
}

TEST(ShardedOptimizer, GathersTheAverageItKeeps) {
  const Snapshot run = train(setup_of(kMomentum, 8), 3);
  for (const models::Parameter& p : awkward_parameters()) {
    EXPECT_EQ(run.averaged.at(p.name), run.states.at("ema/" + p.name)) << p.name;
  }
  EXPECT_EQ(run.averaged.at("stem.weight"), run.parameters.at("stem.weight"));
  EXPECT_EQ(run.averaged.at("body.bn1.running_mean"), run.parameters.at("body.bn1.running_mean"));
  EXPECT_NE(run.averaged.at("head.weight"), run.parameters.at("head.weight"));
}

TEST(ShardedOptimizer, OneNonFiniteGradientIsSeenByItsOwner) {
  SoloOptimizer solo(sgd(0), {{"w", {1, 2}}});
  solo.step({{"w", {0, 1}}}, 0.1);
  EXPECT_FALSE(solo.non_finite());
  solo.step({{"w", {0, std::numeric_limits<float>::infinity()}}}, 0.1);
  EXPECT_TRUE(solo.non_finite());
}

TEST(ShardedOptimizer, AnUpdateThatOverflowsIsSeenToo) {
  SoloOptimizer solo(sgd(0), {{"w", {1, 2}}});
  solo.step({{"w", {0, 1e30f}}}, 1.0);
  EXPECT_FALSE(solo.non_finite());
  solo.step({{"w", {0, 1e30f}}}, 1e30);
  EXPECT_TRUE(solo.non_finite());
}

TEST(ShardedOptimizer, MemoryIsDividedByTheRanks) {
  const OptimizerSetup setup = setup_of({"", rule_of(OptimizerName::kAdam), false, true}, 8);
  std::vector<std::int64_t> bytes(4);
  comm::run_local(4, [&](comm::Communicator& communicator) {
    comm::Stream stream(comm::Device{});
    models::ParameterStorage storage(
        std::make_shared<const models::ParameterLayout>(
            models::make_parameter_layout(awkward_parameters(), {}, 4)),
        comm::Device{});
    ShardedOptimizer optimizer(storage, communicator, stream, setup);
    bytes[communicator.rank()] = optimizer.state_bytes();
  });
  const std::int64_t blocks = 3 + 293 + 1 + 3;  // of the four buckets
  EXPECT_EQ(bytes[0] + bytes[1] + bytes[2] + bytes[3], 3 * 4 * 1024 * blocks);
  EXPECT_LT(bytes[0], 3 * 4 * 1024 * 80);
}

// What a recorded step leaves to the host: the state in which a step ends.
TEST(ShardedOptimizer, ARepeatedMicroBatchIsTakenAndUpdatesNothing) {
  SoloOptimizer solo(sgd(0), {{"w", {1, 2}}});
  ASSERT_TRUE(solo.optimizer().can_be_recorded());
  solo.optimizer().begin_step({.lr = 1});
  solo.optimizer().repeated();
  EXPECT_THROW(solo.optimizer().bucket_ready(0), comm::Error);
  solo.optimizer().finish_updates();
  EXPECT_EQ(solo.weight(), 1);
  solo.step({{"w", {0.5f, 0}}}, 1);
  EXPECT_EQ(solo.weight(), 0.5f);
}

TEST(ShardedOptimizer, StepsThatWaitCannotBeRecorded) {
  OptimizerSetup setup = sgd(0);
  setup.rule.name = OptimizerName::kLars;
  EXPECT_FALSE(SoloOptimizer(setup, {{"w", {1}}}).optimizer().can_be_recorded());
}

TEST(ShardedOptimizer, RefusesARankWithoutMicroBatchesAndABucketTakenTwice) {
  OptimizerSetup setup = setup_of(kMomentum, 2);
  EXPECT_THROW(train(setup, 3), comm::Error);
  SoloOptimizer solo(sgd(0), {{"w", {1}}});
  solo.step({}, 0.1);
  EXPECT_THROW(solo.optimizer().bucket_ready(0), comm::Error);
}

}  // namespace
}  // namespace trainer::testing
