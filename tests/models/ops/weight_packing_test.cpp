// When weights are packed: all at once that wait for the same buckets, none before its own.
#include "models/ops/packed_weights.h"

#include "tests/models/ops/op_fixture.h"

namespace models::testing {
namespace {

class WeightPacking : public ::testing::Test {
 protected:
  static constexpr std::int64_t kOutputs = 3, kInputs = 2, kTaps = 9;
  static constexpr std::int64_t kCount = kOutputs * kInputs * kTaps;

  KernelContext context(const std::vector<int>& buckets) {
    KernelContext context{{}, stream_.view()};
    context.shared = &shared_;
    context.inputs = {Tensor{}, weight_of(buckets[1])};
    context.buckets = buckets;
    return context;
  }
  // Its values are `bucket` plus element / 1000.
  Tensor weight_of(int bucket) {
    parameters_.emplace_back(comm::Device{}, kCount * sizeof(float));
    const Tensor weight{parameters_.back().bytes().data(), Type::kF32, {kOutputs, kInputs, 3, 3}};
    set(weight, static_cast<float>(bucket));
    return weight;
  }
  static void set(const Tensor& weight, float value) {
    for (int i = 0; i < kCount; ++i) weight.f32()[i] = value + static_cast<float>(i) / 1000;
  }
  struct Packed {
    Tensor from;
    std::shared_ptr<PackedWeights> weights;
  };
  Packed pack(int bucket) {
    const KernelContext c = context({-1, bucket});
    return {c.inputs[1], packed_weights(c, WeightSource{c.inputs[1]}, {})};
  }
  // Element (0, 0, 1, 0), which is the parameter's (0, 1, 0, 0), less its distance from `value`.
  static float base(const void* packed) {
    return static_cast<const float*>(packed)[1] - static_cast<float>(kTaps) / 1000;
  }

  comm::Stream stream_{comm::Device{}, 1};
  SharedState shared_;
  std::vector<comm::Buffer> parameters_;
};

TEST_F(WeightPacking, TakesAllOfABucketAtOnceAndNoOther) {
  const Packed a = pack(0), b = pack(1), c = pack(0), fixed = pack(-1);
  const void* const packed_a = a.weights->weight(1);
  const void* const packed_c = c.weights->weight(1);
  const void* const packed_b = b.weights->weight(1);
  EXPECT_FLOAT_EQ(base(packed_a), 0.0f);
  EXPECT_FLOAT_EQ(base(packed_b), 1.0f);
  EXPECT_FLOAT_EQ(base(fixed.weights->weight(1)), -1.0f);
  for (const Packed& p : {a, b, c}) set(p.from, 5.0f);
  EXPECT_FLOAT_EQ(base(a.weights->weight(1)), 0.0f);  // the version says that nothing changed
  a.weights->weight(2);
  EXPECT_FLOAT_EQ(base(packed_a), 5.0f);
  EXPECT_FLOAT_EQ(base(packed_c), 5.0f);
  EXPECT_FLOAT_EQ(base(packed_b), 1.0f);  // may be under way still
  set(b.from, 6.0f);
  EXPECT_FLOAT_EQ(base(b.weights->weight(2)), 6.0f);
}

TEST_F(WeightPacking, RefusesAWeightThatComesLate) {
  pack(0).weights->weight(1);
  EXPECT_THROW(pack(0), comm::Error);
}

// Without a scale and with one, added and not, of a filter whose elements all change places.
TEST_F(WeightPacking, GradientsComeBackInTheOrderOfTheParameter) {
  const Tensor gradient = weight_of(0);
  const std::vector<float> scale = {2.0f, 3.0f, 4.0f};
  const comm::Buffer aligned({}, kCount * sizeof(float));
  float* const from = aligned.as<float>().data();
  for (int i = 0; i < kCount; ++i) from[i] = static_cast<float>(i);
  for (const float* s : {static_cast<const float*>(nullptr), scale.data()}) {
    for (const GradientMode mode : {GradientMode::kOverwrite, GradientMode::kAccumulate}) {
      for (int i = 0; i < kCount; ++i) gradient.f32()[i] = 100.0f;
      give_packed_gradient(stream_, aligned.bytes().data(), {}, s, gradient, mode);
      for (std::int64_t i = 0; i < kCount; ++i) {
        const std::int64_t o = i / (kInputs * kTaps), input = i / kTaps % kInputs, tap = i % kTaps;
        const float d = from[(o * kTaps + tap) * kInputs + input] * (s ? s[o] : 1.0f);
        EXPECT_EQ(gradient.f32()[i], mode == GradientMode::kOverwrite ? d : 100.0f + d) << i;
      }
    }
  }
}

}  // namespace
}  // namespace models::testing
