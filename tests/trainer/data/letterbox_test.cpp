#include "trainer/data/letterbox.h"

#include <algorithm>
#include <cmath>

#include "tests/trainer/data/image_fixtures.h"

namespace trainer {
namespace {

const Normalization kPlain = {{0, 0, 0}, {1, 1, 1}};

Image noise_image(int width, int height) {
  Image image{width, height, {}};
  std::uint32_t state = 12345;
  for (int i = 0; i < 3 * width * height; ++i) {
    state = state * 1664525 + 1013904223;
    image.rgb.push_back(static_cast<std::uint8_t>(state >> 24));
  }
  return image;
}

// Weight of source pixel p for pixel i of an axis scaled from `source` to `scaled`, from the
// definition: a triangle around the centre, over all pixels, in double.
std::vector<double> axis_weights(int source, int scaled, int i, bool antialias) {
  const double step = static_cast<double>(source) / scaled;
  const double center = (i + 0.5) * step;
  std::vector<double> weights(source, 0.0);
  if (!antialias) {
    const double at = std::clamp(center - 0.5, 0.0, source - 1.0);
    const int first = static_cast<int>(at);
    weights[first] += 1 - (at - first);
    weights[std::min(first + 1, source - 1)] += at - first;
    return weights;
  }
  const double reach = std::max(1.0, step);
  double sum = 0;
  for (int p = 0; p < source; ++p) {
    weights[p] = std::max(0.0, 1 - std::abs(p + 0.5 - center) / reach);
    sum += weights[p];
  }
  for (double& w : weights) w /= sum;
  return weights;
}

// Value of channel c at (x, y) of the network's input, before normalisation.
double reference(const Image& image, const Geometry& g, bool antialias, int c, int x, int y) {
  const Size scaled = scaled_size(g);
  const int sx = (g.flip ? g.content_w - 1 - x : x) - static_cast<int>(g.offset_x);
  const int sy = (g.vflip ? g.content_h - 1 - y : y) - static_cast<int>(g.offset_y);
  const auto wx = axis_weights(image.width, scaled.width, sx, antialias);
  const auto wy = axis_weights(image.height, scaled.height, sy, antialias);
  double sum = 0;
  for (int v = 0; v < image.height; ++v)
    if (wy[v] != 0)
      for (int u = 0; u < image.width; ++u)
        sum += wy[v] * wx[u] * image.rgb[3 * (static_cast<std::size_t>(v) * image.width + u) + c];
  return sum;
}

void compare(const Image& image, const Geometry& g, Size network, bool antialias) {
  LetterboxOptions options;
  options.antialias = antialias;
  std::vector<float> out(std::size_t{3} * network.width * network.height, 99.0f);
  letterbox(image, g, network, options, out);
  for (int c = 0; c < 3; ++c)
    for (int y = 0; y < network.height; ++y)
      for (int x = 0; x < network.width; ++x) {
        const float got =
            out[(static_cast<std::size_t>(c) * network.height + y) * network.width + x];
        double want = 0;
        if (x < g.content_w && y < g.content_h)
          want = (reference(image, g, antialias, c, x, y) / 255 - options.normalization.mean[c]) /
                 options.normalization.std[c];
        ASSERT_NEAR(got, want, 3e-6) << c << " " << y << " " << x << " of " << image.width << " x "
                                     << image.height << (antialias ? " antialias" : "");
      }
}

TEST(Letterbox, EqualsTheDefinition) {
  for (const bool antialias : {true, false}) {
    compare(noise_image(40, 30), fit_geometry({40, 30}, {16, 16}), {16, 16}, antialias);
    compare(noise_image(13, 29), fit_geometry({13, 29}, {32, 24}), {32, 24}, antialias);
    compare(noise_image(9, 7), fit_geometry({9, 7}, {27, 30}), {27, 30}, antialias);
    compare(noise_image(70, 3), fit_geometry({70, 3}, {10, 10}), {10, 10}, antialias);
    compare(noise_image(1, 1), fit_geometry({1, 1}, {5, 4}), {5, 4}, antialias);
    compare(noise_image(64, 2), fit_geometry({64, 2}, {1, 1}), {1, 1}, antialias);
  }
}

TEST(Letterbox, FlipsAndCropsEqualTheDefinition) {
  const Image image = noise_image(33, 21);
  for (const double scale : {0.5, 1.0, 1.9}) {
    for (int flips = 0; flips < 4; ++flips) {
      Geometry g = crop_geometry({33, 21}, {14, 12}, {scale, 0.4, 0.9});
      g.flip = (flips & 1) != 0;
      g.vflip = (flips & 2) != 0;
      compare(image, g, {14, 12}, true);
      compare(image, g, {14, 12}, false);
    }
  }
}

// What torchvision's ToTensor and Normalize compute, to the bit.
TEST(Letterbox, SameSizeIsExact) {
  const Image image = noise_image(24, 16);
  const LetterboxOptions options;
  for (const bool flip : {false, true}) {
    Geometry g = same_geometry({24, 16}, {24, 16});
    g.flip = flip;
    std::vector<float> out(3 * 24 * 16);
    letterbox(image, g, {24, 16}, options, out);
    for (int c = 0; c < 3; ++c)
      for (int y = 0; y < 16; ++y)
        for (int x = 0; x < 24; ++x) {
          const int v = image.rgb[3 * (y * 24 + (flip ? 23 - x : x)) + c];
          const float unit = static_cast<float>(v) / 255.0f;
          const float centered = unit - options.normalization.mean[c];
          ASSERT_EQ(out[(c * 16 + y) * 24 + x], centered / options.normalization.std[c]);
        }
  }
}

TEST(Letterbox, ConstantImagesStayConstant) {
  for (const Size size : {Size{517, 123}, Size{10, 11}, Size{256, 256}}) {
    const Image image{size.width, size.height,
                      std::vector<std::uint8_t>(std::size_t{3} * size.width * size.height, 200)};
    for (const bool antialias : {true, false}) {
      const Geometry g = fit_geometry(size, {100, 90});
      std::vector<float> out(3 * 100 * 90);
      letterbox(image, g, {100, 90}, {.normalization = kPlain, .antialias = antialias}, out);
      for (int y = 0; y < g.content_h; ++y)
        for (int x = 0; x < g.content_w; ++x) ASSERT_NEAR(out[y * 100 + x], 200 / 255.0, 1e-6);
    }
  }
}

// Means of 2 x 2 blocks, then the rest of the way, against the whole way at once. The odd side's
// last block stands for one column only.
TEST(Letterbox, ShrunkImagesLandInTheSamePlace) {
  constexpr int kWidth = 33, kHeight = 26;
  Image image{kWidth, kHeight, {}};
  for (int y = 0; y < kHeight; ++y)
    for (int x = 0; x < kWidth; ++x)
      for (int c = 0; c < 3; ++c)
        image.rgb.push_back(static_cast<std::uint8_t>(c == 0   ? 7 * x
                                                      : c == 1 ? 7 * y
                                                               : 4 * (x + y)));
  Image half{17, 13, {}};
  for (int y = 0; y < 13; ++y)
    for (int x = 0; x < 17; ++x)
      for (int c = 0; c < 3; ++c) {
        const auto at = [&](int u, int v) {
          return image.rgb[3 * (v * kWidth + std::min(u, kWidth - 1)) + c];
        };
        const int sum = at(2 * x, 2 * y) + at(2 * x + 1, 2 * y) + at(2 * x, 2 * y + 1) +
                        at(2 * x + 1, 2 * y + 1);
        half.rgb.push_back(static_cast<std::uint8_t>(sum / 4));
      }
  for (const bool flip : {false, true}) {
    Geometry g = fit_geometry({kWidth, kHeight}, {16, 16});
    g.flip = flip;
    std::vector<float> whole(3 * 16 * 16), shrunk(3 * 16 * 16);
    letterbox(image, g, {16, 16}, {.normalization = kPlain}, whole);
    letterbox(half, g, {16, 16}, {.normalization = kPlain, .shrink = 2}, shrunk);
    for (int c = 0; c < 3; ++c)
      for (int y = 1; y < g.content_h - 1; ++y)
        for (int x = 2; x < g.content_w - 2; ++x) {
          const std::size_t i = (c * 16 + y) * 16 + x;
          ASSERT_NEAR(255 * whole[i], 255 * shrunk[i], 1.5) << c << " " << y << " " << x;
        }
  }
}

TEST(Letterbox, NeededSize) {
  const Geometry down = fit_geometry({640, 480}, {256, 256});
  EXPECT_EQ(needed_size(down, true), (Size{256, 192}));
  EXPECT_EQ(needed_size(down, false), (Size{640, 480}));
  EXPECT_EQ(needed_size(fit_geometry({64, 48}, {256, 256}), true), (Size{64, 48}));
}

TEST(Letterbox, WrongSizesAreBugs) {
  std::vector<float> out(3 * 8 * 8);
  const Geometry g = fit_geometry({16, 16}, {8, 8});
  const auto code = comm::ExitCode::kBug;
  fixture::expect_error([&] { letterbox(noise_image(15, 16), g, {8, 8}, {}, out); }, code, {"15"});
  fixture::expect_error([&] { letterbox(noise_image(16, 16), g, {8, 9}, {}, out); }, code, {"192"});
  fixture::expect_error([&] { letterbox(noise_image(16, 16), g, {4, 16}, {}, out); }, code, {"8"});
}

TEST(LetterboxLabels, NearestAtHalfPixelCentres) {
  const LabelImage labels{5, 3, {10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 30, 31, 32, 33, 34}};
  for (const Size network : {Size{10, 10}, Size{3, 3}, Size{7, 5}}) {
    for (int flips = 0; flips < 4; ++flips) {
      Geometry g = fit_geometry({5, 3}, network);
      g.flip = (flips & 1) != 0;
      g.vflip = (flips & 2) != 0;
      std::vector<std::int32_t> out(static_cast<std::size_t>(network.width) * network.height, -1);
      letterbox_labels(labels, g, network, 255, out);
      for (int y = 0; y < network.height; ++y)
        for (int x = 0; x < network.width; ++x) {
          std::int32_t want = 255;
          if (x < g.content_w && y < g.content_h) {
            const double u = ((g.flip ? g.content_w - 1 - x : x) + 0.5) / g.scale_x;
            const double v = ((g.vflip ? g.content_h - 1 - y : y) + 0.5) / g.scale_y;
            want = labels.pixels[static_cast<int>(v) * 5 + static_cast<int>(u)];
          }
          ASSERT_EQ(out[y * network.width + x], want) << x << " " << y;
        }
    }
  }
}

TEST(LetterboxMask, FollowsTheLabels) {
  const Geometry g = crop_geometry({20, 16}, {8, 8}, {1.5, 0.2, 0.7});
  LabelImage labels{20, 16, {}};
  std::vector<std::uint8_t> mask;
  for (int i = 0; i < 320; ++i) {
    mask.push_back(i % 7 < 3);
    labels.pixels.push_back(i % 7 < 3);
  }
  std::vector<std::int32_t> map(64);
  std::vector<std::uint8_t> out(64);
  letterbox_labels(labels, g, {8, 8}, 0, map);
  letterbox_mask(mask, g, {8, 8}, out);
  EXPECT_TRUE(std::equal(out.begin(), out.end(), map.begin()));
}

}  // namespace
}  // namespace trainer
