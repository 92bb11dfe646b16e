#include "trainer/data/photometric.h"

#include <set>

#include "tests/trainer/data/image_fixtures.h"

namespace trainer {
namespace {

Image sample_image() { return {16, 16, fixture::gradient(16, 16, 3).values}; }

Image jittered(Image image, const Jitter& jitter) {
  apply_jitter(image, jitter);
  return image;
}

TEST(Jitter, NeutralFactorsChangeNothing) {
  EXPECT_EQ(jittered(sample_image(), {}).rgb, sample_image().rgb);
}

// Expected values: torchvision.transforms.functional.adjust_* of this uint8 pixel pair.
TEST(Jitter, EqualsTorchvision) {
  const Image pair{2, 1, {200, 100, 50, 10, 250, 30}};
  using Values = std::vector<std::uint8_t>;
  EXPECT_EQ(jittered(pair, {.brightness = 0.8}).rgb, (Values{160, 80, 40, 8, 200, 24}));
  EXPECT_EQ(jittered(pair, {.brightness = 1.3}).rgb, (Values{255, 130, 65, 13, 255, 39}));
  EXPECT_EQ(jittered(pair, {.contrast = 0.5}).rgb, (Values{169, 119, 94, 74, 194, 84}));
  EXPECT_EQ(jittered(pair, {.saturation = 1.4}).rgb, (Values{230, 90, 20, 0, 255, 0}));
  EXPECT_EQ(jittered(pair, {.hue = 0.1}).rgb, (Values{200, 190, 50, 10, 250, 174}));
  EXPECT_EQ(jittered(pair, {.hue = -0.3}).rgb, (Values{130, 50, 200, 250, 78, 10}));
}

TEST(Jitter, ZeroFactorsAreGray) {
  const Image gray = jittered(sample_image(), {.saturation = 0});
  for (std::size_t i = 0; i < gray.rgb.size(); i += 3) {
    EXPECT_EQ(gray.rgb[i], gray.rgb[i + 1]);
    EXPECT_EQ(gray.rgb[i], gray.rgb[i + 2]);
  }
  const Image flat = jittered(sample_image(), {.contrast = 0});
  for (const std::uint8_t v : flat.rgb) EXPECT_EQ(v, flat.rgb[0]);
  for (const std::uint8_t v : jittered(sample_image(), {.brightness = 0}).rgb) EXPECT_EQ(v, 0);
}

TEST(Jitter, HueTurnsThroughThePrimaries) {
  const Image red{1, 1, {255, 0, 0}};
  using Values = std::vector<std::uint8_t>;
  EXPECT_EQ(jittered(red, {.hue = 1.0 / 3}).rgb, (Values{0, 255, 0}));
  EXPECT_EQ(jittered(red, {.hue = -1.0 / 3}).rgb, (Values{0, 0, 255}));
  EXPECT_EQ(jittered(red, {.hue = 0.5}).rgb, (Values{0, 255, 255}));
  const Image gray{1, 1, {77, 77, 77}};
  EXPECT_EQ(jittered(gray, {.hue = 0.37}).rgb, gray.rgb);
}

TEST(Jitter, OrderMatters) {
  using Step = Jitter::Step;
  Jitter jitter = {.brightness = 1.8, .contrast = 0.4};
  const Image forward = jittered(sample_image(), jitter);
  jitter.order = {Step::kContrast, Step::kBrightness, Step::kSaturation, Step::kHue};
  EXPECT_NE(jittered(sample_image(), jitter).rgb, forward.rgb);
}

TEST(Jitter, TwentyFourOrders) {
  std::set<std::array<Jitter::Step, 4>> orders;
  for (std::uint32_t k = 0; k < 24; ++k) {
    const auto order = jitter_order(k);
    EXPECT_EQ(std::set(order.begin(), order.end()).size(), 4u);
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 24u);
  EXPECT_EQ(jitter_order(0), Jitter{}.order);
}

TEST(Jitter, OutOfRangeIsABug) {
  Image image = sample_image();
  const auto code = comm::ExitCode::kBug;
  fixture::expect_error([&] { apply_jitter(image, {.brightness = -0.1}); }, code, {"jitter"});
  fixture::expect_error([&] { apply_jitter(image, {.hue = 0.6}); }, code, {"jitter"});
  fixture::expect_error([&] { jitter_order(24); }, code, {"24"});
}

}  // namespace
}  // namespace trainer
