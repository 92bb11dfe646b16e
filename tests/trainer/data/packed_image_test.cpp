// The kernel that GPUs run, on the host, against letterbox().
#include "trainer/data/packed_image.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "comm/bf16.h"
#include "tests/trainer/data/image_fixtures.h"

namespace trainer {
namespace {

constexpr Size kNetwork = {.width = 20, .height = 16};

Image noise_image(Size size) {
  Image image{size.width, size.height, {}};
  std::uint32_t state = static_cast<std::uint32_t>(size.width * 1000 + size.height);
  for (int i = 0; i < 3 * size.width * size.height; ++i) {
    state = state * 1664525 + 1013904223;
    image.rgb.push_back(static_cast<std::uint8_t>(state >> 24));
  }
  return image;
}

PackedImage head_of(std::span<const std::byte> packed) {
  PackedImage head;
  std::memcpy(&head, packed.data(), sizeof(head));
  return head;
}

struct Case {
  const char* what;
  Image image;
  Geometry geometry;
  LetterboxOptions options = {};
  PackedImage::Kind kind = PackedImage::Kind::kPixels;
};

Geometry flipped(Geometry g, bool flip, bool vflip) {
  g.flip = flip;
  g.vflip = vflip;
  return g;
}

std::vector<Case> cases() {
  const LetterboxOptions two_taps = {.antialias = false}, half = {.shrink = 2};
  const auto fit = [](Size size) { return fit_geometry(size, kNetwork); };
  const auto crop = [](double scale) {
    return crop_geometry({33, 21}, kNetwork, {scale, 0.4, 0.9});
  };
  const auto same = [](bool flip, bool vflip) {
    return flipped(same_geometry(kNetwork, kNetwork), flip, vflip);
  };
  using Kind = PackedImage::Kind;
  return {{"shrunk", noise_image({35, 27}), fit({35, 27})},
          {"shrunk, 2 taps", noise_image({35, 27}), fit({35, 27}), two_taps},
          {"shrunk and mirrored", noise_image({35, 27}), flipped(fit({35, 27}), true, false)},
          {"shrunk, upside down", noise_image({27, 31}), flipped(fit({27, 31}), false, true)},
          {"enlarged", noise_image({9, 7}), fit({9, 7})},
          {"enlarged, 2 taps", noise_image({9, 7}), flipped(fit({9, 7}), true, true), two_taps},
          {"one pixel", noise_image({1, 1}), fit({1, 1})},
          {"wide", noise_image({70, 3}), fit({70, 3})},
          {"cropped, shrunk", noise_image({33, 21}), crop(1.0)},
          {"cropped, enlarged", noise_image({33, 21}), flipped(crop(1.9), true, true)},
          {"decoded at half size", noise_image({20, 14}), fit({39, 27}), half},
          {"copied", noise_image(kNetwork), same(false, false)},
          {"copied and mirrored", noise_image(kNetwork), same(true, true)},
          {"too large", noise_image({90, 70}), fit({90, 70}), {}, Kind::kFinished},
          {"too large, 2 taps", noise_image({90, 70}), fit({90, 70}), two_taps, Kind::kFinished}};
}

std::vector<std::byte> packed_bytes(const Case& c, int channels) {
  std::vector<std::byte> packed(packed_capacity(kNetwork, channels), std::byte{0xAA});
  pack_image(c.image, c.geometry, c.options, {kNetwork, channels, packed});
  return packed;
}

std::vector<float> letterboxed(const Case& c, int channels) {
  std::vector<float> out(std::size_t{3} * kNetwork.width * kNetwork.height);
  letterbox(c.image, c.geometry, kNetwork, c.options, out);
  out.resize(out.size() / 3 * static_cast<std::size_t>(channels));
  return out;
}

NetworkImages target(void* data, std::int64_t num, int channels) {
  return {.data = static_cast<std::byte*>(data),
          .num = num,
          .channels = channels,
          .height = kNetwork.height,
          .width = kNetwork.width};
}

TEST(PackedImage, KernelGivesTheBitsOfLetterbox) {
  const comm::Stream stream(comm::Device{}, 2);
  for (const Case& c : cases()) {
    for (const int channels : {1, 3}) {
      const std::vector<std::byte> packed = packed_bytes(c, channels);
      EXPECT_EQ(head_of(packed).kind, c.kind) << c.what;
      const std::vector<float> expected = letterboxed(c, channels);
      std::vector<float> got(expected.size(), 99.0f);
      place_images(stream, {packed.data(), packed.size()}, target(got.data(), 1, channels));
      EXPECT_EQ(got, expected) << c.what << ", " << channels << " channels";
    }
  }
}

// Several images a launch, one of them none; every value of NHWC bf16 is that of NCHW, rounded.
TEST(PackedImage, WritesWhatConvolutionsOfAGpuRead) {
  const comm::Stream stream(comm::Device{}, 1);
  const std::vector<Case> all = cases();
  constexpr std::size_t kNum = 3;
  const std::size_t plane = static_cast<std::size_t>(kNetwork.width) * kNetwork.height;
  for (const std::size_t channels : {std::size_t{1}, std::size_t{3}}) {
    std::vector<std::byte> packed;
    std::vector<float> expected;
    for (std::size_t n = 0; n < kNum; ++n) {
      std::vector<std::byte> one = packed_bytes(all[n * 4], static_cast<int>(channels));
      std::vector<float> values = letterboxed(all[n * 4], static_cast<int>(channels));
      if (n == 1) {
        pack_nothing(one);
        std::ranges::fill(values, 0.0f);
      }
      packed.insert(packed.end(), one.begin(), one.end());
      expected.insert(expected.end(), values.begin(), values.end());
    }
    std::vector<comm::Bf16> got(expected.size(), 99.0f);
    NetworkImages out = target(got.data(), kNum, static_cast<int>(channels));
    out.bf16 = out.channels_last = true;
    place_images(stream, {packed.data(), packed.size() / kNum}, out);
    for (std::size_t n = 0; n < kNum; ++n)
      for (std::size_t c = 0; c < channels; ++c)
        for (std::size_t i = 0; i < plane; ++i)
          ASSERT_EQ(float{got[(n * plane + i) * channels + c]},
                    float{comm::Bf16(expected[(n * channels + c) * plane + i])})
              << n << " " << c << " " << i;
  }
}

// What is copied to the GPU: bytes of decoded pixels, of a crop those inside it.
TEST(PackedImage, HoldsPixelsAndNoMoreThanItsCapacity) {
  for (const Case& c : cases()) {
    const std::vector<std::byte> packed = packed_bytes(c, 3);
    EXPECT_EQ(used_part(packed).size(), static_cast<std::size_t>(head_of(packed).used_bytes));
    EXPECT_LE(used_part(packed).size(), packed.size()) << c.what;
  }
  const Image image = noise_image({400, 300});
  const Geometry window = crop_geometry({400, 300}, kNetwork, {.scale = 400.0 / kNetwork.width});
  std::vector<std::byte> packed(packed_capacity(kNetwork, 3));
  pack_image(image, window, {}, {kNetwork, 3, packed});
  EXPECT_EQ(head_of(packed).kind, PackedImage::Kind::kPixels);
  EXPECT_LT(used_part(packed).size(), 3u * 22 * 18 + 2048);
  pack_nothing(packed);
  EXPECT_EQ(used_part(packed).size(), sizeof(PackedImage));
}

TEST(PackedImage, AJpegThatTheDecoderShrinksFits) {
  for (const int side : {101, 399, 801, 1599}) {
    const Size original = {side, side * 2 / 3};
    const Size network = {100, 100};
    const Geometry g = fit_geometry(original, network);
    int shrink = 1;
    const auto reduced = [](int x, int by) { return (x + by - 1) / by; };
    while (shrink < 8 && reduced(original.width, 2 * shrink) >= g.content_w &&
           reduced(original.height, 2 * shrink) >= g.content_h)
      shrink *= 2;
    const Image image =
        noise_image({reduced(original.width, shrink), reduced(original.height, shrink)});
    std::vector<std::byte> packed(packed_capacity(network, 3));
    pack_image(image, g, {.shrink = shrink}, {network, 3, packed});
    EXPECT_EQ(head_of(packed).kind, PackedImage::Kind::kPixels) << side;
  }
}

TEST(PackedImage, RefusesAnImageOfAnotherSizeAndTooLittleRoom) {
  Case c = cases()[0];
  std::vector<std::byte> packed(packed_capacity(kNetwork, 3));
  c.image = noise_image({34, 27});
  EXPECT_THROW(pack_image(c.image, c.geometry, {}, {kNetwork, 3, packed}), comm::Error);
  c = cases()[0];
  packed.resize(1000);
  EXPECT_THROW(pack_image(c.image, c.geometry, {}, {kNetwork, 3, packed}), comm::Error);
}

}  // namespace
}  // namespace trainer
