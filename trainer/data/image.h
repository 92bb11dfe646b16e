#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trainer {

// Files are told apart by their first bytes, never by their name. Supported encodings, and what
// becomes of each when an RGB image is asked for (the same as PIL's convert("RGB"), except 16-bit
// gray, which PIL does not scale):
//   JPEG baseline, progressive, arithmetic; 8 bit     accurate integer DCT, smooth chroma
//   upsampling JPEG gray                                         R = G = B JPEG CMYK, YCCK inks
//   stored inverted, as Adobe does:
//                                                     R = K' - round((255 - C') K' / 255)
//   PNG gray 1, 2, 4 bit                              scaled to 0..255 (x 255, 85, 17)
//   PNG 16 bit                                        the high byte
//   PNG palette                                       the colour of the entry
//   PNG with alpha or tRNS                            alpha is dropped, nothing is composed
// Colour profiles and gamma are ignored. Anything else (GIF, WebP, 12-bit or lossless JPEG ...) is
// refused by its name. EXIF orientation is applied in both formats; 0 or an invalid value counts
// as 1.
//
// Errors: 66 the file is missing; 74 it cannot be read; 65 it is not an image this program reads,
// is beyond the limits, or is damaged. Decoder warnings (a premature end, say) count as damage.

struct Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> rgb;  // (H, W, 3)
};

// Class or instance numbers, as stored.
struct LabelImage {
  int width = 0;
  int height = 0;
  std::vector<std::uint16_t> pixels;  // (H, W)
};

enum class ImageFormat : std::uint8_t { kJpeg, kPng };

struct ImageInfo {
  int width = 0;  // after orientation
  int height = 0;
  ImageFormat format = ImageFormat::kJpeg;
  std::string encoding;              // "JPEG progressive YCbCr", "PNG palette 4 bit interlaced"
  int orientation = 1;               // 1..8, what is applied
  bool orientation_ignored = false;  // the file says 0 or nonsense, and 1 is taken
};

// Checked from the header, before pixels are decoded or memory for them is taken.
inline constexpr int kMaxImageSide = 65535;
inline constexpr std::int64_t kMaxImagePixels = 100'000'000;
inline constexpr std::int64_t kMaxImageFileBytes = std::int64_t{1} << 29;
inline constexpr int kMaxJpegScans = 100;

// An encoded image in memory; `name` stands for it in messages (usually the path).
struct EncodedImage {
  std::span<const std::uint8_t> bytes;
  std::string_view name;
};

// The whole file. Errors: 66, 74, and 65 beyond kMaxImageFileBytes.
std::vector<std::uint8_t> read_file_bytes(const std::filesystem::path& path);

// Reads the header alone.
ImageInfo probe_image(const EncodedImage& encoded);
ImageInfo probe_image(const std::filesystem::path& path);

Image read_image(const EncodedImage& encoded);
Image read_image(const std::filesystem::path& path);

// An image of which each pixel stands for shrink x shrink pixels of the file's. The last column and
// row may stand for less: width = ceil(info.width / shrink).
struct ShrunkImage {
  Image image;
  ImageInfo info;  // of the file: the full size
  int shrink = 1;  // 1, 2, 4 or 8
};

// Decodes a JPEG at the largest reduction of its DCT that leaves at least min_width x min_height
// pixels (after orientation); a PNG, or a minimum of the full size, is decoded whole. The pixels
// are means of blocks and differ from those of a full decode: use it only in front of an
// antialiased reduction, which at 640 x 480 -> 256 px it makes 1.2 to 1.6 times as fast, decode
// included.
ShrunkImage read_shrunk_image(const EncodedImage& encoded, int min_width, int min_height);
ShrunkImage read_shrunk_image(const std::filesystem::path& path, int min_width, int min_height);

// PNG only: palette index, or gray value of 1, 2, 4, 8 or 16 bit, unscaled. An image with colours
// or alpha is refused (65) with the way to convert it, a JPEG because it does not keep values.
LabelImage read_label_image(const EncodedImage& encoded);
LabelImage read_label_image(const std::filesystem::path& path);

struct Rgb {
  std::uint8_t r, g, b;
};

// Pascal VOC's colours of 256 classes (bits of the index spread over r, g, b from the top down);
// 255 is (224, 224, 192).
const std::vector<Rgb>& voc_palette();

std::vector<std::uint8_t> encode_png(const Image& image);
// 8-bit palette PNG; REQUIRES: every pixel < palette.size() <= 256. Without a palette 16-bit gray.
std::vector<std::uint8_t> encode_label_png(const LabelImage& labels, std::span<const Rgb> palette);

// Errors: 74.
void write_png(const std::filesystem::path& path, const Image& image);
void write_label_png(const std::filesystem::path& path, const LabelImage& labels,
                     std::span<const Rgb> palette);

}  // namespace trainer
