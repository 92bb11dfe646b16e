#include "models/ops/fast_math.h"

#include <gtest/gtest.h>

#include <limits>

namespace models {
namespace {

// Distance in units of the last place of the float nearest to `exact`.
double ulps(float value, double exact) {
  const auto nearest = static_cast<float>(exact);
  const float next = std::nextafter(std::fabs(nearest), std::numeric_limits<float>::infinity());
  const double ulp = double{next} - std::fabs(nearest);
  return std::fabs(double{value} - exact) / ulp;
}

// Calls use(x) for about a million x in [low, high], dense near zero as floats are.
template <typename Use>
void sweep(float low, float high, Use use) {
  for (int i = 0; i <= 600'000; ++i) use(low + (high - low) * (static_cast<float>(i) / 600'000.0f));
  for (float x = 1e-30f; x < high; x *= 1.0003f) use(x);
  for (float x = -1e-30f; x > low; x *= 1.0003f) use(x);
}

TEST(FastMath, ExponentialIsWithinTwoUlps) {
  double worst = 0;
  sweep(-87.0f, 0.0f,
        [&](float x) { worst = std::max(worst, ulps(exp_of_negative(x), std::exp(double{x}))); });
  EXPECT_LT(worst, 2.0);
  EXPECT_EQ(exp_of_negative(0.0f), 1.0f);
  EXPECT_EQ(exp_of_negative(-87.5f), 0.0f);
  EXPECT_EQ(exp_of_negative(-std::numeric_limits<float>::infinity()), 0.0f);
}

TEST(FastMath, LogarithmIsWithinFourUlps) {
  double worst = 0;
  sweep(0.0f, 1.0f,
        [&](float z) { worst = std::max(worst, ulps(log1p_of_unit(z), std::log1p(double{z}))); });
  EXPECT_LT(worst, 4.0);
  EXPECT_EQ(log1p_of_unit(0.0f), 0.0f);
}

TEST(FastMath, SigmoidPartsAreWithinFourUlps) {
  double p = 0, q = 0, softplus = 0;
  sweep(-80.0f, 80.0f, [&](float x) {
    const Sigmoid s = sigmoid_parts(x);
    p = std::max(p, ulps(s.p, 1.0 / (1.0 + std::exp(-double{x}))));
    q = std::max(q, ulps(s.q, 1.0 / (1.0 + std::exp(double{x}))));
    const double exact = std::max(double{x}, 0.0) + std::log1p(std::exp(-std::fabs(double{x})));
    softplus = std::max(softplus, ulps(s.softplus, exact));
  });
  EXPECT_LT(p, 4.0);
  EXPECT_LT(q, 4.0);
  EXPECT_LT(softplus, 4.0);
}

TEST(FastMath, SigmoidPartsStayFiniteFarOut) {
  for (float x : {90.0f, 1000.0f, std::numeric_limits<float>::max()}) {
    EXPECT_EQ(sigmoid_parts(x).p, 1.0f);
    EXPECT_EQ(sigmoid_parts(x).q, 0.0f);
    EXPECT_EQ(sigmoid_parts(x).softplus, x);
    EXPECT_EQ(sigmoid_parts(-x).p, 0.0f);
    EXPECT_EQ(sigmoid_parts(-x).q, 1.0f);
    EXPECT_EQ(sigmoid_parts(-x).softplus, 0.0f);
  }
}

// A loss must not hide that the network diverged.
TEST(FastMath, NotANumberStaysOne) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(exp_of_negative(nan)));
  EXPECT_TRUE(std::isnan(sigmoid_parts(nan).p));
  EXPECT_TRUE(std::isnan(sigmoid_parts(nan).softplus));
}

}  // namespace
}  // namespace models
