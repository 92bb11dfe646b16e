#include "trainer/data/augment.h"

#include <gtest/gtest.h>

#include <cmath>

namespace trainer {
namespace {

DataConfig strong() {
  DataConfig config;
  config.flip = 0.5;
  config.vflip = 0.25;
  config.scale = {0.5, 2};
  config.shift = 0.2;
  config.photometric = 0.4;
  return config;
}

TEST(Augmentation, NothingIsDrawnByDefault) {
  const Augmentation a = draw_augmentation(DataConfig(), 1, {5, 2});
  EXPECT_FALSE(a.flip || a.vflip || a.jitter);
  EXPECT_EQ(a.scale, 1);
  EXPECT_EQ(a.shift_x, 0);
  const Size original = {.width = 640, .height = 480}, network = {.width = 256, .height = 256};
  const Geometry drawn = augmented_geometry(DataConfig(), a, original, network);
  const Geometry fit = fit_geometry(original, network);
  EXPECT_EQ(drawn.scale_x, fit.scale_x);
  EXPECT_EQ(drawn.content_h, fit.content_h);
  EXPECT_EQ(drawn.offset_x, 0);
}

TEST(Augmentation, FollowsTheProbabilitiesAndKeys) {
  const DataConfig config = strong();
  int flips = 0, vflips = 0;
  double log_scale = 0;
  constexpr int kDraws = 4000;
  for (int i = 0; i < kDraws; ++i) {
    const Augmentation a = draw_augmentation(config, 1, {i, 0});
    flips += a.flip;
    vflips += a.vflip;
    log_scale += std::log(a.scale) / kDraws;
    EXPECT_GE(a.scale, 0.5);
    EXPECT_LE(a.scale, 2);
    ASSERT_TRUE(a.jitter);
    EXPECT_LE(std::abs(a.jitter->brightness - 1), 0.4001);
    EXPECT_LE(std::abs(a.jitter->hue), 0.0401);
    EXPECT_LE(std::abs(a.shift_x), 0.2);
  }
  EXPECT_NEAR(flips, 2000, 5 * 32);
  EXPECT_NEAR(vflips, 1000, 5 * 28);
  EXPECT_NEAR(log_scale, 0, 5 * 0.4 / std::sqrt(kDraws));
  const auto crop = [&](std::uint64_t seed, const Draw& draw) {
    return draw_augmentation(config, seed, draw).crop_x;
  };
  EXPECT_EQ(crop(1, {3, 4}), crop(1, {3, 4}));
  EXPECT_NE(crop(1, {3, 4}), crop(2, {3, 4}));
  EXPECT_NE(crop(1, {3, 4}), crop(1, {4, 4}));
  EXPECT_NE(crop(1, {3, 4}), crop(1, {3, 5}));
}

TEST(Augmentation, OneOptionNeverMovesAnother) {
  DataConfig config = strong();
  const Augmentation a = draw_augmentation(config, 1, {8, 1});
  config.flip = 0;
  config.photometric = 0;
  const Augmentation b = draw_augmentation(config, 1, {8, 1});
  EXPECT_EQ(a.scale, b.scale);
  EXPECT_EQ(a.crop_x, b.crop_x);
  EXPECT_EQ(a.vflip, b.vflip);
}

class AugmentedGeometry : public ::testing::TestWithParam<Resize> {};

TEST_P(AugmentedGeometry, StaysInsideAndInvertible) {
  DataConfig config = strong();
  config.resize = GetParam();
  const Size network = {.width = 96, .height = 64};
  for (int i = 0; i < 300; ++i) {
    Size original = {.width = 20 + 7 * i % 300, .height = 20 + 11 * i % 300};
    if (config.resize == Resize::kNone) original = network;
    const Augmentation a = draw_augmentation(config, 7, {i, 0});
    const Geometry g = augmented_geometry(config, a, original, network);
    ASSERT_GE(g.content_w, 1);
    ASSERT_LE(g.content_w, network.width);
    ASSERT_GE(g.content_h, 1);
    ASSERT_LE(g.content_h, network.height);
    EXPECT_EQ(g.offset_x, std::round(g.offset_x));
    EXPECT_LE(g.offset_x, 0);
    EXPECT_LE(g.content_w - g.offset_x, scaled_size(g).width);
    // A box inside the content comes back.
    const Corners box = {0.25 * g.content_w, 0.25 * g.content_h, 0.75 * g.content_w,
                         0.75 * g.content_h};
    const Corners back = to_network(g, to_original(g, box));
    for (std::size_t k = 0; k < 4; ++k) EXPECT_NEAR(back[k], box[k], 1e-6) << i;
  }
}
INSTANTIATE_TEST_SUITE_P(Resizes, AugmentedGeometry,
                         ::testing::Values(Resize::kFit, Resize::kCrop, Resize::kNone));

TEST(CropGeometry, ShortSideAndScale) {
  DataConfig config;
  config.resize = Resize::kCrop;
  const Size original = {.width = 200, .height = 100}, network = {.width = 64, .height = 64};
  Augmentation a;
  EXPECT_NEAR(augmented_geometry(config, a, original, network).scale_x, 1, 1e-9);
  config.short_side = 80;
  EXPECT_NEAR(augmented_geometry(config, a, original, network).scale_y, 0.8, 1e-9);
  a.scale = 0.5;  // 80 x 40: smaller than the window
  const Geometry g = augmented_geometry(config, a, original, network);
  EXPECT_EQ(g.content_w, 64);
  EXPECT_EQ(g.content_h, 40);
}

TEST(EvaluationGeometry, DetectorsSeeTheWholeImage) {
  DataConfig config;
  config.resize = Resize::kCrop;
  config.short_side = 72;
  const Size original = {.width = 200, .height = 100}, network = {.width = 64, .height = 64};
  const Geometry whole = evaluation_geometry(config, false, original, network);
  EXPECT_EQ(whole.content_w, 64);
  EXPECT_EQ(whole.content_h, 32);
  const Geometry centre = evaluation_geometry(config, true, original, network);
  EXPECT_EQ(centre.content_h, 64);
  EXPECT_NEAR(centre.offset_x, -(144 - 64) / 2, 1);
}

}  // namespace
}  // namespace trainer
