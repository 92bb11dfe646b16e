#include "trainer/data/codec_png.h"

#include "tests/trainer/data/image_fixtures.h"

namespace trainer {
namespace {

using comm::ExitCode;
using fixture::Bytes;
using fixture::encoded;
using fixture::expect_error;
using fixture::make_png;
using fixture::PngOptions;

// 8 x 4 pixels of `depth` bits, pixel i = 5 i mod 2^depth, packed as PNG does.
constexpr int kWidth = 8, kHeight = 4;
int value_at(int i, int depth) { return 5 * i % (1 << depth); }

Bytes pack(int depth) {
  Bytes packed(static_cast<std::size_t>(kWidth * kHeight * depth / 8), 0);
  for (int i = 0; i < kWidth * kHeight; ++i) {
    const int v = value_at(i, depth);
    if (depth < 8)
      packed[i * depth / 8] |= static_cast<std::uint8_t>(v << (8 - depth - i * depth % 8));
    else
      packed[i] = static_cast<std::uint8_t>(v);
  }
  return packed;
}

std::vector<png_color> palette_of(int num) {
  std::vector<png_color> palette;
  for (int i = 0; i < num; ++i)
    palette.push_back({static_cast<png_byte>(3 * i), static_cast<png_byte>(255 - i),
                       static_cast<png_byte>(7 * i)});
  return palette;
}

TEST(CodecPng, GrayOfEveryDepth) {
  for (const int depth : {1, 2, 4, 8}) {
    for (const bool interlaced : {false, true}) {
      const Bytes png =
          make_png(kWidth, kHeight, pack(depth),
                   {.depth = depth, .color = PNG_COLOR_TYPE_GRAY, .interlaced = interlaced});
      const Image image = read_image(encoded(png));
      const LabelImage labels = read_label_image(encoded(png));
      for (int i = 0; i < kWidth * kHeight; ++i) {
        const int v = value_at(i, depth);
        ASSERT_EQ(labels.pixels[i], v) << depth;
        for (int c = 0; c < 3; ++c) ASSERT_EQ(image.rgb[3 * i + c], v * 255 / ((1 << depth) - 1));
      }
      EXPECT_EQ(probe_image(encoded(png)).encoding,
                "PNG gray " + std::to_string(depth) + " bit" + (interlaced ? " interlaced" : ""));
    }
  }
}

TEST(CodecPng, SixteenBitGray) {
  Bytes packed;
  std::vector<int> values;
  for (int i = 0; i < kWidth * kHeight; ++i) {
    values.push_back(i * 2047 % 65536);
    packed.push_back(static_cast<std::uint8_t>(values.back() >> 8));
    packed.push_back(static_cast<std::uint8_t>(values.back()));
  }
  const Bytes png = make_png(kWidth, kHeight, packed, {.depth = 16, .color = PNG_COLOR_TYPE_GRAY});
  const Image image = read_image(encoded(png));
  const LabelImage labels = read_label_image(encoded(png));
  for (int i = 0; i < kWidth * kHeight; ++i) {
    EXPECT_EQ(labels.pixels[i], values[i]);
    EXPECT_EQ(image.rgb[3 * i], values[i] >> 8);
  }
}

TEST(CodecPng, PaletteGivesColoursOrIndices) {
  for (const int depth : {1, 2, 4, 8}) {
    const auto palette = palette_of(1 << depth);
    for (const bool transparent : {false, true}) {
      PngOptions options = {.depth = depth, .color = PNG_COLOR_TYPE_PALETTE, .palette = palette};
      if (transparent) options.transparency = {0, 128};
      const Bytes png = make_png(kWidth, kHeight, pack(depth), options);
      const Image image = read_image(encoded(png));
      const LabelImage labels = read_label_image(encoded(png));
      for (int i = 0; i < kWidth * kHeight; ++i) {
        const png_color color = palette[value_at(i, depth)];
        ASSERT_EQ(labels.pixels[i], value_at(i, depth));
        ASSERT_EQ(image.rgb[3 * i], color.red);
        ASSERT_EQ(image.rgb[3 * i + 1], color.green);
        ASSERT_EQ(image.rgb[3 * i + 2], color.blue);
      }
    }
  }
}

TEST(CodecPng, AlphaAndTheLowByteAreDropped) {
  struct Kind {
    int color, depth, channels;
    bool gray;
  };
  for (const Kind& kind :
       {Kind{PNG_COLOR_TYPE_RGB, 8, 3, false}, Kind{PNG_COLOR_TYPE_RGB, 16, 3, false},
        Kind{PNG_COLOR_TYPE_RGB_ALPHA, 8, 4, false}, Kind{PNG_COLOR_TYPE_RGB_ALPHA, 16, 4, false},
        Kind{PNG_COLOR_TYPE_GRAY_ALPHA, 8, 2, true},
        Kind{PNG_COLOR_TYPE_GRAY_ALPHA, 16, 2, true}}) {
    const int bytes = kind.depth / 8;
    Bytes packed;
    for (int i = 0; i < kWidth * kHeight * kind.channels * bytes; ++i)
      packed.push_back(static_cast<std::uint8_t>(i * 37));
    const Bytes png = make_png(kWidth, kHeight, packed, {.depth = kind.depth, .color = kind.color});
    const Image image = read_image(encoded(png));
    for (int i = 0; i < kWidth * kHeight; ++i)
      for (int c = 0; c < 3; ++c)
        ASSERT_EQ(image.rgb[3 * i + c], packed[(i * kind.channels + (kind.gray ? 0 : c)) * bytes]);
    expect_error(
        [&] { read_label_image(encoded(png)); }, ExitCode::kData,
        {"must be gray or palette", kind.gray ? "gray with alpha" : "RGB", "8- or 16-bit"});
  }
}

TEST(CodecPng, OrientationOfAnExifChunkIsApplied) {
  const Bytes plain =
      make_png(kWidth, kHeight, pack(8), {.depth = 8, .color = PNG_COLOR_TYPE_GRAY});
  const Bytes turned = fixture::with_chunk(plain, "eXIf", fixture::make_tiff(6));
  EXPECT_EQ(probe_image(encoded(turned)).width, kHeight);
  const Image image = read_image(encoded(turned));
  const LabelImage labels = read_label_image(encoded(turned));
  ASSERT_EQ(image.width, kHeight);
  ASSERT_EQ(labels.height, kWidth);
  // Stored row r is upright column W - 1 - r, stored column c upright row c.
  for (int r = 0; r < kHeight; ++r)
    for (int c = 0; c < kWidth; ++c) {
      const int at = c * kHeight + kHeight - 1 - r;
      ASSERT_EQ(image.rgb[3 * at], value_at(r * kWidth + c, 8));
      ASSERT_EQ(labels.pixels[at], value_at(r * kWidth + c, 8));
    }
  const Bytes odd = fixture::with_chunk(plain, "eXIf", {1, 2, 3});
  EXPECT_EQ(read_image(encoded(odd)).rgb, read_image(encoded(plain)).rgb);
}

TEST(CodecPng, CompressedProfilesAndTextsAreNotInflated) {
  const Bytes plain =
      make_png(kWidth, kHeight, pack(8), {.depth = 8, .color = PNG_COLOR_TYPE_GRAY});
  const Bytes zeros(std::size_t{64} << 20, 0);
  uLongf num_packed = compressBound(zeros.size());
  Bytes packed(num_packed);
  ASSERT_EQ(compress2(packed.data(), &num_packed, zeros.data(), zeros.size(), 9), Z_OK);
  Bytes text = {'k', 0, 0};
  text.insert(text.end(), packed.begin(), packed.begin() + static_cast<std::ptrdiff_t>(num_packed));
  Bytes bomb = plain;
  for (const char* name : {"zTXt", "iCCP", "zTXt"}) bomb = fixture::with_chunk(bomb, name, text);
  EXPECT_EQ(read_image(encoded(bomb)).rgb, read_image(encoded(plain)).rgb);
}

TEST(CodecPng, SizesBeyondTheLimitsAreRefusedFromTheHeader) {
  const Bytes png = make_png(kWidth, kHeight, pack(8), {.depth = 8, .color = PNG_COLOR_TYPE_GRAY});
  expect_error([&] { read_image(encoded(fixture::with_png_size(png, 65535, 65535))); },
               ExitCode::kData, {"65535 x 65535", "limit"});
  expect_error([&] { read_label_image(encoded(fixture::with_png_size(png, 9000, 9000))); },
               ExitCode::kData, {"9000 x 9000", "bytes can hold"});
  for (const auto& [width, height] : {std::pair{0, 4}, {4, 0}, {65536, 1}, {-1, -1}})
    expect_error([&] { probe_image(encoded(fixture::with_png_size(png, width, height))); },
                 ExitCode::kData, {"fixture"});
  expect_error([&] { read_image(encoded(fixture::with_png_size(png, kWidth, 5))); },
               ExitCode::kData, {"damaged"});
}

TEST(CodecPng, TruncationAndFlippedBitsAreTypedErrors) {
  const Bytes png = make_png(kWidth, kHeight, pack(8),
                             {.depth = 8,
                              .color = PNG_COLOR_TYPE_PALETTE,
                              .interlaced = true,
                              .palette = palette_of(256)});
  for (std::size_t size = 8; size < png.size(); ++size) {
    const Bytes cut(png.begin(), png.begin() + static_cast<std::ptrdiff_t>(size));
    expect_error([&] { read_image(encoded(cut)); }, ExitCode::kData, {"fixture", "damaged PNG"});
    expect_error([&] { read_label_image(encoded(cut)); }, ExitCode::kData, {"premature end"});
  }
  for (std::size_t i = 8; i < png.size(); ++i) {
    Bytes flipped = png;
    flipped[i] ^= 0x10;
    expect_error([&] { read_image(encoded(flipped)); }, ExitCode::kData, {"fixture"});
  }
}

TEST(CodecPng, WrittenPngsReadBack) {
  const fixture::Pixels p = fixture::gradient(31, 17, 3);
  const Image image{31, 17, p.values};
  EXPECT_EQ(read_image(encoded(encode_png(image))).rgb, image.rgb);
  LabelImage labels{16, 16, {}};
  for (int i = 0; i < 256; ++i) labels.pixels.push_back(static_cast<std::uint16_t>(i));
  const Bytes png = encode_label_png(labels, voc_palette());
  EXPECT_EQ(read_label_image(encoded(png)).pixels, labels.pixels);
  const Image colors = read_image(encoded(png));
  for (int i = 0; i < 256; ++i) EXPECT_EQ(colors.rgb[3 * i + 1], voc_palette()[i].g);
  labels.pixels[3] = 21;
  expect_error([&] { encode_label_png(labels, std::span(voc_palette()).first(21)); },
               ExitCode::kBug, {"palette"});
}

TEST(CodecPng, LabelsWithoutPaletteAre16Bit) {
  const LabelImage labels{3, 2, {0, 1, 255, 256, 300, 65535}};
  const Bytes png = encode_label_png(labels, {});
  EXPECT_EQ(probe_image(encoded(png)).encoding, "PNG gray 16 bit");
  EXPECT_EQ(read_label_image(encoded(png)).pixels, labels.pixels);
}

}  // namespace
}  // namespace trainer
