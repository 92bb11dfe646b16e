#include "trainer/data/codec_jpeg.h"

#include "tests/trainer/data/image_fixtures.h"

namespace trainer {
namespace {

using comm::ExitCode;
using fixture::Bytes;
using fixture::encoded;
using fixture::expect_error;
using fixture::JpegOptions;
using fixture::make_jpeg;
using fixture::Pixels;

const JpegOptions kGray = {.input = JCS_GRAYSCALE, .stored = JCS_GRAYSCALE};

// What libjpeg gives without any of our settings.
Bytes plain_decode(const Bytes& jpeg) {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, jpeg.data(), jpeg.size());
  jpeg_read_header(&info, TRUE);
  info.out_color_space = JCS_RGB;
  jpeg_start_decompress(&info);
  Bytes out(std::size_t{3} * info.output_width * info.output_height);
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = &out[std::size_t{3} * info.output_width * info.output_scanline];
    jpeg_read_scanlines(&info, &row, 1);
  }
  jpeg_finish_decompress(&info);
  jpeg_destroy_decompress(&info);
  return out;
}

TEST(CodecJpeg, GrayBecomesThreeEqualChannels) {
  const Pixels p = fixture::blocks(3, 2, 1);
  const Image image = read_image(encoded(make_jpeg(p, kGray)));
  ASSERT_EQ(image.width, 24);
  ASSERT_EQ(image.height, 16);
  for (std::size_t i = 0; i < p.values.size(); ++i)
    for (int c = 0; c < 3; ++c) ASSERT_EQ(image.rgb[3 * i + c], p.values[i]) << i;
}

TEST(CodecJpeg, RgbStoredAsItIsIsExact) {
  const Pixels p = fixture::blocks(2, 3, 3);
  const Bytes jpeg = make_jpeg(p, {.stored = JCS_RGB});
  EXPECT_EQ(read_image(encoded(jpeg)).rgb, p.values);
  EXPECT_EQ(probe_image(encoded(jpeg)).encoding, "JPEG baseline RGB");
}

TEST(CodecJpeg, BaselineAndProgressiveEqualThePlainDecoder) {
  const Pixels p = fixture::gradient(53, 37, 3);
  for (const bool subsample : {false, true}) {
    const Bytes baseline = make_jpeg(p, {.quality = 80, .subsample = subsample});
    const Bytes progressive =
        make_jpeg(p, {.quality = 80, .subsample = subsample, .progressive = true});
    const Image image = read_image(encoded(baseline));
    EXPECT_EQ(image.rgb, plain_decode(baseline));
    EXPECT_EQ(read_image(encoded(progressive)).rgb, image.rgb);
    EXPECT_EQ(probe_image(encoded(progressive)).encoding, "JPEG progressive YCbCr");
  }
}

TEST(CodecJpeg, ArithmeticEqualsHuffman) {
  const Pixels p = fixture::gradient(40, 40, 3);
  const Bytes arithmetic = make_jpeg(p, {.quality = 90, .arithmetic = true});
  EXPECT_EQ(read_image(encoded(arithmetic)).rgb,
            read_image(encoded(make_jpeg(p, {.quality = 90}))).rgb);
  EXPECT_EQ(probe_image(encoded(arithmetic)).encoding, "JPEG arithmetic baseline YCbCr");
}

TEST(CodecJpeg, CmykIsStoredInverted) {
  const Pixels p = fixture::blocks(4, 4, 4);
  const Bytes jpeg = make_jpeg(p, {.input = JCS_CMYK, .stored = JCS_CMYK});
  EXPECT_EQ(probe_image(encoded(jpeg)).encoding, "JPEG baseline CMYK");
  const Image image = read_image(encoded(jpeg));
  for (std::size_t i = 0; i < image.rgb.size() / 3; ++i) {
    const double k = p.values[4 * i + 3];
    for (int c = 0; c < 3; ++c) {
      const double ink = 255 - p.values[4 * i + c];
      ASSERT_NEAR(image.rgb[3 * i + c], k - ink * k / 255, 0.5001) << i << " " << c;
    }
  }
}

TEST(CodecJpeg, YcckIsTurnedIntoCmykFirst) {
  const Pixels p = fixture::blocks(4, 4, 4);
  const Bytes ycck = make_jpeg(p, {.input = JCS_CMYK, .stored = JCS_YCCK});
  const Bytes cmyk = make_jpeg(p, {.input = JCS_CMYK, .stored = JCS_CMYK});
  EXPECT_EQ(probe_image(encoded(ycck)).encoding, "JPEG baseline YCCK");
  const Image a = read_image(encoded(ycck)), b = read_image(encoded(cmyk));
  for (std::size_t i = 0; i < a.rgb.size(); ++i) ASSERT_NEAR(a.rgb[i], b.rgb[i], 3) << i;
}

TEST(CodecJpeg, EightOrientations) {
  // Upright pixel (x, y) of stored column c, row r, for an upright image of W x H.
  const Pixels upright = fixture::blocks(3, 2, 1);
  const int w = upright.width, h = upright.height;
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const bool swap = orientation >= 5;
    Pixels stored{swap ? h : w, swap ? w : h, 1, {}};
    for (int r = 0; r < stored.height; ++r) {
      for (int c = 0; c < stored.width; ++c) {
        const std::pair<int, int> at[] = {
            {c, r}, {w - 1 - c, r}, {w - 1 - c, h - 1 - r}, {c, h - 1 - r},
            {r, c}, {w - 1 - r, c}, {w - 1 - r, h - 1 - c}, {r, h - 1 - c}};
        const auto [x, y] = at[orientation - 1];
        stored.values.push_back(upright.values[static_cast<std::size_t>(y) * w + x]);
      }
    }
    for (const bool little : {true, false}) {
      const Bytes jpeg =
          fixture::with_exif(make_jpeg(stored, kGray), fixture::make_tiff(orientation, little));
      const ImageInfo info = probe_image(encoded(jpeg));
      EXPECT_EQ(info.orientation, orientation);
      EXPECT_EQ(info.width, w);
      EXPECT_EQ(info.height, h);
      const Image image = read_image(encoded(jpeg));
      ASSERT_EQ(image.width, w);
      ASSERT_EQ(image.height, h);
      for (std::size_t i = 0; i < upright.values.size(); ++i)
        ASSERT_EQ(image.rgb[3 * i], upright.values[i]) << orientation << " at " << i;
      const ShrunkImage half = read_shrunk_image(encoded(jpeg), w / 2, h / 2);
      EXPECT_EQ(half.shrink, 2);
      EXPECT_EQ(half.image.width, w / 2);
      for (int y = 0; y < h / 2; ++y)
        for (int x = 0; x < w / 2; ++x)
          ASSERT_EQ(half.image.rgb[3 * (y * (w / 2) + x)], upright.values[2 * (y * w + x)]);
    }
  }
}

TEST(CodecJpeg, OrientationZeroAndNonsenseCountAsOne) {
  const Bytes jpeg = make_jpeg(fixture::blocks(2, 1, 1), kGray);
  for (const int value : {0, 9, 255, 65535}) {
    const Bytes odd = fixture::with_exif(jpeg, fixture::make_tiff(value));
    EXPECT_EQ(probe_image(encoded(odd)).orientation, 1);
    EXPECT_TRUE(probe_image(encoded(odd)).orientation_ignored);
    EXPECT_EQ(read_image(encoded(odd)).rgb, read_image(encoded(jpeg)).rgb);
  }
  EXPECT_FALSE(probe_image(encoded(jpeg)).orientation_ignored);
}

TEST(CodecJpeg, ShrunkIsNeverSmallerThanAsked) {
  const Bytes jpeg = make_jpeg(fixture::gradient(101, 67, 3), {.quality = 95});
  for (const auto& [width, height, shrink] : {std::tuple{101, 67, 1},
                                              {51, 10, 1},
                                              {50, 33, 2},
                                              {25, 16, 4},
                                              {26, 1, 2},
                                              {12, 8, 8},
                                              {1, 1, 8},
                                              {500, 500, 1}}) {
    const ShrunkImage s = read_shrunk_image(encoded(jpeg), width, height);
    EXPECT_EQ(s.shrink, shrink) << width << " x " << height;
    EXPECT_EQ(s.image.width, (101 + shrink - 1) / shrink);
    EXPECT_EQ(s.image.height, (67 + shrink - 1) / shrink);
    EXPECT_EQ(s.info.width, 101);
  }
  const Bytes mirrored = fixture::with_exif(jpeg, fixture::make_tiff(2));
  EXPECT_EQ(read_shrunk_image(encoded(mirrored), 1, 1).shrink, 1);
}

TEST(CodecJpeg, TruncationIsAlwaysAnError) {
  for (const bool progressive : {false, true}) {
    const Bytes jpeg =
        make_jpeg(fixture::gradient(64, 48, 3), {.quality = 75, .progressive = progressive});
    ASSERT_NO_THROW(read_image(encoded(jpeg)));
    for (std::size_t size = 3; size < jpeg.size(); ++size) {
      const Bytes cut(jpeg.begin(), jpeg.begin() + static_cast<std::ptrdiff_t>(size));
      expect_error([&] { read_image(encoded(cut)); }, ExitCode::kData, {"fixture", "damaged"});
    }
  }
}

TEST(CodecJpeg, FlippedBitsGiveAnImageOrATypedError) {
  const Bytes jpeg = fixture::with_exif(
      make_jpeg(fixture::gradient(32, 32, 3), {.quality = 60, .subsample = true}),
      fixture::make_tiff(6));
  int num_errors = 0;
  for (std::size_t i = 3; i < jpeg.size(); ++i) {
    for (const int bit : {0, 3, 7}) {
      Bytes flipped = jpeg;
      flipped[i] ^= static_cast<std::uint8_t>(1 << bit);
      try {
        const Image image = read_image(encoded(flipped));
        ASSERT_EQ(image.rgb.size(), std::size_t{3} * image.width * image.height);
      } catch (const comm::Error& error) {
        ASSERT_EQ(error.code(), ExitCode::kData) << error.what();
        ++num_errors;
      }
    }
  }
  EXPECT_GT(num_errors, 0);
}

TEST(CodecJpeg, SizesBeyondTheLimitsAreRefusedFromTheHeader) {
  const Bytes jpeg = make_jpeg(fixture::blocks(1, 1, 1), kGray);
  ASSERT_LT(jpeg.size(), 1024u);
  expect_error([&] { read_image(encoded(fixture::with_jpeg_size(jpeg, 65500, 65500))); },
               ExitCode::kData, {"65500 x 65500", "limit"});
  expect_error([&] { probe_image(encoded(fixture::with_jpeg_size(jpeg, 9000, 9000))); },
               ExitCode::kData, {"9000 x 9000", "bytes can hold"});
  expect_error([&] { read_image(encoded(fixture::with_jpeg_size(jpeg, 0, 8))); }, ExitCode::kData,
               {"fixture"});
}

TEST(CodecJpeg, TooManyScansAreRefused) {
  // DC, then each AC coefficient in two scans: its upper bits and its last one.
  std::vector<jpeg_scan_info> scans = {{1, {0}, 0, 0, 0, 0}};
  for (int k = 1; k < 64; ++k) scans.push_back({1, {0}, k, k, 0, 1});
  JpegOptions options = kGray;
  options.scans = scans;
  EXPECT_NO_THROW(read_image(encoded(make_jpeg(fixture::gradient(16, 16, 1), options))));
  for (int k = 1; k < 64; ++k) options.scans.push_back({1, {0}, k, k, 1, 0});
  const Bytes jpeg = make_jpeg(fixture::gradient(16, 16, 1), options);
  expect_error([&] { read_image(encoded(jpeg)); }, ExitCode::kData, {"more than 100 scans"});
}

TEST(CodecJpeg, UnsupportedKindsAreNamed) {
  Bytes jpeg = make_jpeg(fixture::blocks(1, 1, 1), kGray);
  const std::string text(jpeg.begin(), jpeg.end());
  const std::size_t frame = text.find("\xFF\xC0");
  ASSERT_NE(frame, std::string::npos);
  Bytes deep = jpeg, lossless = jpeg;
  deep[frame + 4] = 12;
  lossless[frame + 1] = 0xC3;
  expect_error([&] { probe_image(encoded(deep)); }, ExitCode::kData, {"precision 12"});
  expect_error([&] { probe_image(encoded(lossless)); }, ExitCode::kData, {"SOF type 0xc3"});
}

TEST(CodecJpeg, GarbageBetweenSegmentsIsDamage) {
  Bytes jpeg = make_jpeg(fixture::blocks(2, 2, 1), kGray);
  jpeg.insert(jpeg.end() - 2, {1, 2, 3, 4, 5, 6, 7, 8});
  expect_error([&] { read_image(encoded(jpeg)); }, ExitCode::kData, {"extraneous"});
}

}  // namespace
}  // namespace trainer
