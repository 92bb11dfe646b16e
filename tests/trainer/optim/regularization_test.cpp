// The rows of REGULARIZATION.md: conventions, forms of decay, interactions.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/trainer/optim/optim_fixture.h"

namespace trainer::testing {
namespace {

constexpr DecayMode kModes[] = {DecayMode::kCoupled, DecayMode::kDecoupled, DecayMode::kLoss};

float one_step(const OptimizerSetup& setup, float w, float g, double lr) {
  SoloOptimizer solo(setup, {{"w", {w}}});
  solo.step({{"w", {g}}}, lr);
  return solo.weight();
}

OptimizerSetup full(OptimizerSetup setup) {
  setup.regularization.convention = Convention::kFull;
  return setup;
}

int ulps(float a, float b) {
  int count = 0;
  for (; a != b && count < 100; ++count) a = std::nextafter(a, b);
  return count;
}

double penalty_at(OptimizerSetup setup, const Tensors& weights) {
  SoloOptimizer solo(setup, weights);
  solo.step({}, StepValues{.lr = 0, .report = true});
  return solo.optimizer().report().l2_penalty;
}

TEST(Convention, KerasL2IsFullTwoLambdaW) {
  for (float w : {2.0f, -0.5f}) EXPECT_FLOAT_EQ(one_step(full(sgd(0.125)), w, 0, 1), w * 0.75f);
}

TEST(Convention, PyTorchPaddleLbannCaffeAreHalfLambdaW) {
  for (float w : {2.0f, -0.5f}) EXPECT_FLOAT_EQ(one_step(sgd(0.125), w, 0, 1), w * 0.875f);
}

// Darknet: update += -decay batch w, later times lr / batch.
TEST(Convention, DarknetIsHalfAfterItsDivisionByTheBatch) {
  const double decay = 0.0005, batch = 64, lr = 0.1, w = 1.5;
  const double darknet = w + lr / batch * (-decay * batch * w);
  EXPECT_NEAR(one_step(sgd(decay), 1.5f, 0, lr), darknet, 1e-7);
}

TEST(Convention, KerasCoefficientIsHalfOfPyTorchs) {
  for (DecayMode mode : kModes) {
    EXPECT_EQ(one_step(full(sgd(5e-5, mode)), 1.7f, 0.3f, 0.1),
              one_step(sgd(1e-4, mode), 1.7f, 0.3f, 0.1));
  }
}

TEST(Convention, PenaltyIsLambdaOrHalfLambdaSumOfSquares) {
  const Tensors weights{{"w", {3, 4}}};
  EXPECT_DOUBLE_EQ(penalty_at(sgd(0.5), weights), 0.5 / 2 * 25);
  EXPECT_DOUBLE_EQ(penalty_at(full(sgd(0.5)), weights), 0.5 * 25);
}

TEST(Convention, WeightsOnlyAndWithBiasesDifferByTheBiasTerm) {
  const Tensors weights{{"w", {3, 4}}, {"w.bias", {2}}};
  OptimizerSetup all = sgd(0.5), weights_only = all;
  weights_only.regularization.rules.reset();
  EXPECT_DOUBLE_EQ(penalty_at(all, weights) - penalty_at(weights_only, weights), 0.5 / 2 * 4);
  SoloOptimizer a(all, weights), b(weights_only, weights);
  a.step({}, 0.1);
  b.step({}, 0.1);
  EXPECT_EQ(a.weights("w")[0], b.weights("w")[0]);
  EXPECT_EQ(a.weights("w")[1], b.weights("w")[1]);
  EXPECT_FLOAT_EQ(a.weight("w.bias"), 2.0f * (1 - 0.1f * 0.5f));
  EXPECT_EQ(b.weight("w.bias"), 2.0f);
}

// The pull of every mode is the derivative of the penalty that the report states.
TEST(Convention, UpdateIsTheFiniteDifferenceOfThePenalty) {
  const float w = 1.25f, h = 1.0f / 256;
  for (DecayMode mode : kModes) {
    for (const OptimizerSetup& setup : {sgd(0.25, mode), full(sgd(0.25, mode))}) {
      const double slope =
          (penalty_at(setup, {{"w", {w + h}}}) - penalty_at(setup, {{"w", {w - h}}})) / (2 * h);
      const double lr = 0.5;
      EXPECT_NEAR((w - one_step(setup, w, 0, lr)) / lr, slope, 1e-6) << to_string(mode);
    }
  }
}

TEST(Articles, DecayIsNoConstantSubtraction) {
  const double lr = 0.01, c = 0.001;
  for (DecayMode mode : kModes) {
    EXPECT_EQ(one_step(sgd(c, mode), 0.0f, 0, lr), 0.0f);  // the constant would push below zero
    const double small = 1.0 - one_step(sgd(c, mode), 1.0f, 0, lr);
    const double large = 100.0 - one_step(sgd(c, mode), 100.0f, 0, lr);
    EXPECT_NEAR(large / small, 100, 2);
    EXPECT_EQ(one_step(sgd(c, mode), -2.0f, 0, lr), -one_step(sgd(c, mode), 2.0f, 0, lr));
    EXPECT_GT(one_step(sgd(c, mode), -2.0f, 0, lr), -2.0f);  // towards zero, not towards minus
  }
}

// Decay .001 in the optimizer plus .001 p^2 in the loss: .001 w + .002 w.
TEST(Articles, DecayTwiceIsThreefold) {
  EXPECT_FLOAT_EQ(one_step(sgd(0.001), 2, 0, 0.01), 1.99998f);
  const double both = 0.001 * 2 + 2 * 0.001 * 2;  // as a gradient
  EXPECT_FLOAT_EQ(one_step(sgd(0), 2, static_cast<float>(both), 0.01), 1.99994f);
  EXPECT_FLOAT_EQ(one_step(sgd(0.003), 2, 0, 0.01), 1.99994f);
}

TEST(Articles, RateScalingRulesDoNotTuneLambda) {
  OptimizerSetup coupled = sgd(0.1), decoupled = sgd(0.1, DecayMode::kDecoupled);
  coupled.rule.name = decoupled.rule.name = OptimizerName::kAdam;
  const auto pull = [&](const OptimizerSetup& setup, float g) {
    OptimizerSetup none = setup;
    none.regularization.l2 = 0;
    SoloOptimizer with(setup, {{"w", {1}}}), without(none, {{"w", {1}}});
    for (int step = 0; step < 200; ++step) {
      const float sign = step % 2 == 0 ? g : -g;
      with.step({{"w", {sign}}}, 1e-3);
      without.step({{"w", {sign}}}, 1e-3);
    }
    return without.weight() - with.weight();
  };
  EXPECT_GT(pull(coupled, 1), 5 * pull(coupled, 10));  // large gradients decay less
  EXPECT_NEAR(pull(decoupled, 10) / pull(decoupled, 1), 1.0, 0.01);
}

TEST(Identity, PlainSgdModesAgreeToOneUlp) {
  for (int i = 1; i <= 200; ++i) {
    const float w = 0.037f * static_cast<float>(i), g = 0.011f * static_cast<float>(i % 7);
    for (float gradient : {0.0f, g}) {
      const float coupled = one_step(sgd(0.01, DecayMode::kCoupled), w, gradient, 0.1);
      EXPECT_LE(ulps(coupled, one_step(sgd(0.01, DecayMode::kDecoupled), w, gradient, 0.1)), 1);
      EXPECT_LE(ulps(coupled, one_step(sgd(0.01, DecayMode::kLoss), w, gradient, 0.1)), 1);
    }
  }
}

TEST(Decay, MomentumMultipliesTheCoupledPullAtRest) {
  SoloOptimizer solo(sgd(1e-4, DecayMode::kCoupled, 0.9), {{"w", {1}}});
  double last = 1;
  for (int step = 0; step < 200; ++step) {
    last = solo.weight();
    solo.step({}, 0.1);
  }
  EXPECT_NEAR((last - solo.weight()) / last, 1e-5 / (1 - 0.9), 2e-6);
}

TEST(Decay, AdamwFormsDifferByTheBaseRate) {
  OptimizerSetup setup = sgd(0.1, DecayMode::kDecoupled);
  setup.rule.name = OptimizerName::kAdamw;
  SoloOptimizer pytorch(setup, {{"w", {1}}});
  pytorch.step({}, StepValues{.lr = 0.005, .lr_factor = 0.5});
  EXPECT_FLOAT_EQ(pytorch.weight(), 1 - 0.005f * 0.1f);
  setup.regularization.decay_scale = DecayScale::kScheduleOnly;
  SoloOptimizer original(setup, {{"w", {1}}});
  original.step({}, StepValues{.lr = 0.005, .lr_factor = 0.5});
  EXPECT_FLOAT_EQ(original.weight(), 1 - 0.5f * 0.1f);
}

TEST(Decay, LambdaScheduleScalesL2AndL1) {
  OptimizerSetup setup = sgd(0.5);
  setup.regularization.l1 = 0.25;
  SoloOptimizer solo(setup, {{"w", {1}}});
  solo.step({}, StepValues{.lr = 0.1, .lambda_factor = 0.5});
  EXPECT_FLOAT_EQ(solo.weight(), 1 - 0.1f * 0.25f - 0.1f * 0.125f);
}

TEST(Decay, OncePerStepWhateverMicroBatchesAndRanks) {
  for (DecayMode mode : kModes) {
    OptimizerSetup setup = sgd(0.05, mode);
    const Snapshot one = train(setup, 1, {0, 1});
    setup.num_micro_batches = 4;
    const Snapshot four = train(setup, 4, {0, 1});
    OptimizerSetup none = setup;
    none.regularization.l2 = 0;
    const Snapshot bare = train(none, 4, {0, 1});
    const auto at = [](const Snapshot& s) { return s.parameters.at("head.weight")[0]; };
    OptimizerSetup single_none = none;
    single_none.num_micro_batches = 1;
    const float pull = at(bare) - at(four);
    const float expected = at(train(single_none, 1, {0, 1})) - at(one);
    EXPECT_NEAR(pull, expected, 2e-7) << to_string(mode);
    EXPECT_GT(std::abs(expected), 1e-5);
  }
}

TEST(Clipping, LossDecayInsideTheNormCoupledAfterDecoupledBeside) {
  const auto clipped = [](DecayMode mode) {
    OptimizerSetup setup = sgd(1, mode);
    setup.clip.norm = 1;
    SoloOptimizer solo(setup, {{"w", {3}}});
    solo.step({{"w", {4}}}, StepValues{.lr = 0.5, .report = true});
    return std::pair{solo.weight(), solo.optimizer().report().grad_norm};
  };
  const auto loss = clipped(DecayMode::kLoss);
  EXPECT_NEAR(loss.first, 3 - 0.5 * 1, 1e-6);  // (4 + 3) / 7
  EXPECT_DOUBLE_EQ(loss.second, 7);
  const auto coupled = clipped(DecayMode::kCoupled);
  EXPECT_NEAR(coupled.first, 3 - 0.5 * (1 + 3), 1e-6);
  EXPECT_DOUBLE_EQ(coupled.second, 4);
  const auto decoupled = clipped(DecayMode::kDecoupled);
  EXPECT_NEAR(decoupled.first, 3 * (1 - 0.5) - 0.5 * 1, 1e-6);
  EXPECT_DOUBLE_EQ(decoupled.second, 4);
}

TEST(Clipping, SmallGradientsAreLeftAlone) {
  OptimizerSetup setup = sgd(0);
  setup.clip.norm = 10;
  EXPECT_EQ(one_step(setup, 3, 4, 0.5), one_step(sgd(0), 3, 4, 0.5));
}

TEST(L1, SoftThresholdMakesExactZeros) {
  OptimizerSetup setup = sgd(0);
  setup.regularization.l1 = 0.05;
  SoloOptimizer solo(setup, {{"w", {0.004f, -0.004f, 0.02f, -0.02f}}});
  solo.step({}, StepValues{.lr = 0.1, .report = true});
  EXPECT_EQ(solo.weights("w")[0], 0.0f);
  EXPECT_EQ(solo.weights("w")[1], 0.0f);
  EXPECT_FLOAT_EQ(solo.weights("w")[2], 0.015f);
  EXPECT_FLOAT_EQ(solo.weights("w")[3], -0.015f);
  EXPECT_EQ(solo.optimizer().report().groups.at(0).sparsity, 0.5);
}

TEST(L1, AdaptiveRulesThresholdInTheirMetric) {
  OptimizerSetup setup = sgd(0);
  setup.rule.name = OptimizerName::kAdagrad;
  setup.rule.eps = 1e-10;
  setup.regularization.l1 = 0.5;
  // sum = 16: w - lr 4 / 4, then lr / 4 times l1
  EXPECT_NEAR(one_step(setup, 1, 4, 0.1), 1 - 0.1 - 0.1 / 4 * 0.5, 1e-6);
  setup.rule.name = OptimizerName::kRmsprop;
  setup.rule.alpha = 0.75;  // square_avg = 4
  EXPECT_NEAR(one_step(setup, 1, 4, 0.1), 1 - 0.1 * 2 - 0.1 / 2 * 0.5, 1e-6);
  setup.rule.name = OptimizerName::kAdam;  // first step: v / correction = 16
  EXPECT_NEAR(one_step(setup, 1, 4, 0.1), 1 - 0.1 - 0.1 / 4 * 0.5, 1e-6);
}

TEST(L1, ElasticNetIsL2ThenThreshold) {
  OptimizerSetup setup = sgd(0.5);
  setup.regularization.l1 = 0.25;
  EXPECT_NEAR(one_step(setup, 1, 2, 0.1), (1 - 0.1 * (2 + 0.5)) - 0.1 * 0.25, 1e-7);
}

TEST(Lars, TrustRatioOfWeightsPlainRateOfBiases) {
  OptimizerSetup setup = sgd(0.25, DecayMode::kCoupled, 0.5);
  setup.rule.name = OptimizerName::kLars;
  setup.rule.trust = 0.1;
  SoloOptimizer solo(setup, {{"w", {3, 4}}, {"w.bias", {2}}, {"z", {0}}});
  double w[2] = {3, 4}, bias = 2, m[2] = {0, 0}, bias_m = 0;
  const double g[2] = {0.6, -0.8}, lr = 0.5, c = 0.25, mu = 0.5;
  for (int step = 0; step < 2; ++step) {
    solo.step({{"w", {0.6f, -0.8f}}, {"w.bias", {1}}, {"z", {1}}}, lr);
    const double norm = std::hypot(w[0], w[1]);
    const double trust = 0.1 * norm / (std::hypot(g[0], g[1]) + c * norm + setup.rule.eps);
    for (int i = 0; i < 2; ++i) {
      m[i] = mu * m[i] + lr * trust * (g[i] + c * w[i]);
      w[i] -= m[i];
    }
    bias_m = mu * bias_m + lr * (1 + c * bias);
    bias -= bias_m;
    EXPECT_NEAR(solo.weights("w")[0], w[0], 1e-6) << step;
    EXPECT_NEAR(solo.weights("w")[1], w[1], 1e-6) << step;
    EXPECT_NEAR(solo.weight("w.bias"), bias, 1e-6) << step;
    if (step > 0) continue;
    EXPECT_FLOAT_EQ(solo.weight("z"), -0.5f);  // zero weights: plain rate
  }
}

TEST(Frozen, NeverDecaysWhateverTheRules) {
  for (DecayMode mode : kModes) {
    OptimizerSetup setup = sgd(0.5, mode);
    setup.regularization.l1 = 0.5;
    SoloOptimizer solo(setup, {parameter("w", 3)},
                       {parameter("stem", 5), parameter("up", 5, models::ParameterKind::kFixed)});
    for (const char* name : {"w", "stem", "up"}) {
      for (float& v : solo.weights(name)) v = 1.0f;
    }
    solo.step({}, 0.1);
    EXPECT_LT(solo.weight(), 1.0f);
    for (const char* name : {"stem", "up"}) {
      for (float v : solo.weights(name)) EXPECT_EQ(v, 1.0f);
    }
  }
}

TEST(Statistic, AveragesTheBatchAndNeverDecays) {
  OptimizerSetup setup = sgd(0.5);
  setup.regularization.l1 = 0.5;
  setup.clip.norm = 1e-3;
  SoloOptimizer solo(setup, {parameter("mean", 1, models::ParameterKind::kStatistic)}, {});
  solo.weights("mean")[0] = 2;
  solo.step({{"mean", {4}}}, 0.1);
  EXPECT_FLOAT_EQ(solo.weight("mean"), 2 + 0.1f * (4 - 2));
}

TEST(Ema, FollowsTheWeightsAndDecaysOnlyThrough) {
  OptimizerSetup setup = sgd(0.5);
  setup.ema.decay = 0.75;
  SoloOptimizer solo(setup, {{"w", {1}}});
  solo.optimizer().start_ema();
  solo.step({}, 0.2);
  float average = 0;
  solo.optimizer().for_each_state([&](const std::string& state, const std::string&, std::int64_t,
                                      std::int64_t, std::span<float> piece) {
    if (state == "ema") average = piece[0];
  });
  EXPECT_FLOAT_EQ(solo.weight(), 0.9f);
  EXPECT_FLOAT_EQ(average, 0.75f + 0.25f * 0.9f);
}

// Padding behind a tensor has zero gradients for ever: rules that divide by its square must not
// make it NaN.
TEST(Padding, StaysZeroWithoutEpsilon) {
  for (OptimizerName name : {OptimizerName::kAdam, OptimizerName::kAdamw, OptimizerName::kAdagrad,
                             OptimizerName::kRmsprop, OptimizerName::kLars}) {
    OptimizerSetup setup = sgd(0);
    setup.rule.name = name;
    setup.rule.eps = 0;
    setup.rule.momentum = 0.5;
    for (double l1 : {0.0, 0.001}) {
      setup.regularization.l1 = l1;
      SoloOptimizer solo(setup, {{"w", {1, 2}}});
      solo.step({{"w", {0.5f, 0}}}, 0.1);
      EXPECT_FALSE(solo.non_finite()) << to_string(name);
      EXPECT_LT(solo.weights("w")[0], 1.0f);
      EXPECT_NEAR(solo.weights("w")[1], 2.0f, 1e-3f) << to_string(name);
    }
  }
}

}  // namespace
}  // namespace trainer::testing
