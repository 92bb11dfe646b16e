#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <jpeglib.h>
#include <png.h>
#include <zlib.h>

#include "comm/error.h"
#include "trainer/data/image.h"

// Encoded images made in memory, so that every pixel and every byte of them is known.
namespace trainer::fixture {

using Bytes = std::vector<std::uint8_t>;

inline EncodedImage encoded(const Bytes& bytes) { return {bytes, "fixture"}; }

struct Pixels {
  int width, height, channels;
  Bytes values;
};

struct JpegOptions {
  int quality = 100;
  J_COLOR_SPACE input = JCS_RGB;
  J_COLOR_SPACE stored = JCS_YCbCr;
  bool subsample = false;  // 2 x 2 chroma
  bool progressive = false;
  bool arithmetic = false;
  std::vector<jpeg_scan_info> scans = {};
};

inline Bytes make_jpeg(const Pixels& pixels, const JpegOptions& options = {}) {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* data = nullptr;
  unsigned long num_bytes = 0;
  jpeg_mem_dest(&info, &data, &num_bytes);
  info.image_width = static_cast<unsigned>(pixels.width);
  info.image_height = static_cast<unsigned>(pixels.height);
  info.input_components = pixels.channels;
  info.in_color_space = options.input;
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, options.stored);
  jpeg_set_quality(&info, options.quality, TRUE);
  info.arith_code = options.arithmetic ? TRUE : FALSE;
  if (!options.subsample)
    for (int c = 0; c < info.num_components; ++c)
      info.comp_info[c].h_samp_factor = info.comp_info[c].v_samp_factor = 1;
  if (options.progressive) jpeg_simple_progression(&info);
  if (!options.scans.empty()) {
    info.scan_info = options.scans.data();
    info.num_scans = static_cast<int>(options.scans.size());
  }
  jpeg_start_compress(&info, TRUE);
  for (int y = 0; y < pixels.height; ++y) {
    auto* row = const_cast<JSAMPLE*>(
        &pixels.values[static_cast<std::size_t>(y) * pixels.width * pixels.channels]);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  Bytes bytes(data, data + num_bytes);
  std::free(data);
  return bytes;
}

// A TIFF block whose only entry is the orientation.
inline Bytes make_tiff(int orientation, bool little_endian = true, int type = 3) {
  const auto u16 = [&](int v) {
    const auto low = static_cast<std::uint8_t>(v), high = static_cast<std::uint8_t>(v >> 8);
    return little_endian ? Bytes{low, high} : Bytes{high, low};
  };
  const auto u32 = [&](int v) {
    Bytes low = u16(v), zero = u16(0);
    if (!little_endian) std::swap(low, zero);
    low.insert(low.end(), zero.begin(), zero.end());
    return low;
  };
  Bytes tiff = little_endian ? Bytes{'I', 'I'} : Bytes{'M', 'M'};
  for (const Bytes& part :
       {u16(42), u32(8), u16(1), u16(0x0112), u16(type), u32(1), u16(orientation), u16(0), u32(0)})
    tiff.insert(tiff.end(), part.begin(), part.end());
  return tiff;
}

// Puts an Exif APP1 segment behind the start marker.
inline Bytes with_exif(const Bytes& jpeg, const Bytes& tiff) {
  const std::size_t length = 2 + 6 + tiff.size();
  Bytes out(jpeg.begin(), jpeg.begin() + 2);
  for (const int v : {0xFF, 0xE1, static_cast<int>(length >> 8), static_cast<int>(length & 0xFF),
                      int{'E'}, int{'x'}, int{'i'}, int{'f'}, 0, 0})
    out.push_back(static_cast<std::uint8_t>(v));
  out.insert(out.end(), tiff.begin(), tiff.end());
  out.insert(out.end(), jpeg.begin() + 2, jpeg.end());
  return out;
}

// Writes the size into the frame header, whatever the data hold.
inline Bytes with_jpeg_size(Bytes jpeg, int width, int height) {
  for (std::size_t i = 2; i + 9 < jpeg.size();) {
    const int marker = jpeg[i + 1];
    if (marker >= 0xC0 && marker <= 0xC2) {
      for (const auto& [at, value] : {std::pair{i + 5, height}, std::pair{i + 7, width}}) {
        jpeg[at] = static_cast<std::uint8_t>(value >> 8);
        jpeg[at + 1] = static_cast<std::uint8_t>(value);
      }
      return jpeg;
    }
    i += 2 + (jpeg[i + 2] << 8 | jpeg[i + 3]);
  }
  ADD_FAILURE() << "no frame header";
  return jpeg;
}

struct PngOptions {
  int depth = 8;
  int color = PNG_COLOR_TYPE_RGB;
  bool interlaced = false;
  std::vector<png_color> palette = {};
  Bytes transparency = {};  // tRNS of a palette
};

// `packed` holds the rows as PNG stores them: big-endian, sub-byte pixels from the top bit.
inline Bytes make_png(int width, int height, const Bytes& packed, const PngOptions& options) {
  Bytes out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &out,
      [](png_structp p, png_bytep data, std::size_t count) {
        auto* bytes = static_cast<Bytes*>(png_get_io_ptr(p));
        bytes->insert(bytes->end(), data, data + count);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height),
               options.depth, options.color, options.interlaced ? PNG_INTERLACE_ADAM7 : 0, 0, 0);
  if (!options.palette.empty())
    png_set_PLTE(png, info, options.palette.data(), static_cast<int>(options.palette.size()));
  if (!options.transparency.empty())
    png_set_tRNS(png, info, options.transparency.data(),
                 static_cast<int>(options.transparency.size()), nullptr);
  png_write_info(png, info);
  std::vector<png_bytep> rows;
  const std::size_t row_bytes = png_get_rowbytes(png, info);
  EXPECT_EQ(packed.size(), row_bytes * static_cast<std::size_t>(height));
  for (int y = 0; y < height; ++y)
    rows.push_back(const_cast<png_bytep>(packed.data() + static_cast<std::size_t>(y) * row_bytes));
  png_write_image(png, rows.data());
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return out;
}

inline void append_u32(Bytes& bytes, std::uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8)
    bytes.push_back(static_cast<std::uint8_t>(v >> shift));
}

// Puts a chunk behind IHDR, with its right checksum.
inline Bytes with_chunk(const Bytes& png, const std::string& name, const Bytes& data) {
  constexpr int kAfterHeader = 8 + 25;
  Bytes chunk;
  append_u32(chunk, static_cast<std::uint32_t>(data.size()));
  chunk.insert(chunk.end(), name.begin(), name.end());
  chunk.insert(chunk.end(), data.begin(), data.end());
  append_u32(chunk, static_cast<std::uint32_t>(
                        crc32(0, chunk.data() + 4, static_cast<uInt>(chunk.size() - 4))));
  Bytes out = png;
  out.insert(out.begin() + kAfterHeader, chunk.begin(), chunk.end());
  return out;
}

inline Bytes with_png_size(Bytes png, int width, int height) {
  Bytes size;
  append_u32(size, static_cast<std::uint32_t>(width));
  append_u32(size, static_cast<std::uint32_t>(height));
  std::copy(size.begin(), size.end(), png.begin() + 16);
  Bytes checksum;
  append_u32(checksum, static_cast<std::uint32_t>(crc32(0, png.data() + 12, 17)));
  std::copy(checksum.begin(), checksum.end(), png.begin() + 29);
  return png;
}

// Blocks of 8 x 8 pixels of one value each: at quality 100 such a gray JPEG keeps them exactly.
inline Pixels blocks(int columns, int rows, int channels) {
  Pixels p{8 * columns, 8 * rows, channels, {}};
  for (int y = 0; y < p.height; ++y)
    for (int x = 0; x < p.width; ++x)
      for (int c = 0; c < channels; ++c)
        p.values.push_back(
            static_cast<std::uint8_t>((x / 8 * 40 + y / 8 * 77 + c * 19 + 10) % 256));
  return p;
}

// A smooth picture without symmetry.
inline Pixels gradient(int width, int height, int channels) {
  Pixels p{width, height, channels, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c)
        p.values.push_back(
            static_cast<std::uint8_t>((c == 0   ? 255 * x / width
                                       : c == 1 ? 255 * y / height
                                                : 120 + 100 * x * y / width / height)));
  return p;
}

// Expects comm::Error with this code and all of these words in its one line.
template <typename Call>
void expect_error(const Call& call, comm::ExitCode code, const std::vector<std::string>& words) {
  try {
    call();
    ADD_FAILURE() << "no error";
  } catch (const comm::Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.code(), code) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    for (const std::string& word : words)
      EXPECT_NE(text.find(word), std::string::npos) << "no \"" << word << "\" in: " << text;
  }
}

}  // namespace trainer::fixture
