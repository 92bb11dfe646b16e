#include "trainer/data/image.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "comm/error.h"
#include "trainer/data/codec_jpeg.h"
#include "trainer/data/codec_png.h"
#include "trainer/data/image_error.h"

namespace trainer {
namespace {

using comm::ExitCode;
using std::string_view_literals::operator""sv;

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, FileCloser>;

std::string_view head_of(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 64)};
}

std::optional<ImageFormat> supported_format(std::string_view head) {
  if (head.starts_with("\xFF\xD8\xFF"sv)) return ImageFormat::kJpeg;
  if (head.starts_with("\x89PNG\r\n\x1A\n"sv)) return ImageFormat::kPng;
  return std::nullopt;
}

std::string_view other_format(std::string_view head) {
  constexpr std::pair<std::string_view, std::string_view> kSignatures[] = {
      {"GIF87a"sv, "a GIF"},
      {"GIF89a"sv, "a GIF"},
      {"II*\0"sv, "a TIFF"},
      {"MM\0*"sv, "a TIFF"},
      {"\0\0\0\x0CjP"sv, "a JPEG 2000"},
      {"\xFF\x4F\xFF\x51"sv, "a JPEG 2000"},
      {"\xFF\x0A"sv, "a JPEG XL"},
      {"\0\0\0\x0CJXL"sv, "a JPEG XL"},
      {"%PDF"sv, "a PDF"},
      {"<svg"sv, "an SVG"},
      {"<?xml"sv, "XML"},
      {"<!DOCTYPE"sv, "HTML"},
      {"<html"sv, "HTML"},
      {"\x1F\x8B"sv, "gzip data"},
      {"PK\x03\x04"sv, "a ZIP"},
      {"\x89HDF"sv, "an HDF5 file"},
      {"version https://git-lfs"sv, "a Git LFS pointer, not the image itself"},
  };
  for (const auto& [signature, name] : kSignatures)
    if (head.starts_with(signature)) return name;
  if (head.starts_with("RIFF"sv) && head.substr(8).starts_with("WEBP"sv)) return "a WebP";
  if (head.size() > 12 && head.substr(4, 4) == "ftyp"sv)
    return head.substr(8, 3) == "avi"sv ? "an AVIF" : "a HEIF or another ISO media file";
  if (head.size() > 2 && head[0] == 'P' && head[1] >= '1' && head[1] <= '7' &&
      std::strchr(" \t\r\n#", head[2]) != nullptr)
    return "a PNM";
  if (head.starts_with("BM"sv) && head.size() >= 26) return "a BMP";
  return "not an image known here";
}

ImageFormat require_format(const EncodedImage& encoded) {
  if (encoded.bytes.empty()) fail_image(encoded.name, {"the file is empty", "", "get it again"});
  const std::string_view head = head_of(encoded.bytes);
  if (const auto format = supported_format(head)) return *format;
  fail_image(encoded.name, {fmt::format("it is {}", other_format(head)), "",
                            "convert it to JPEG or PNG; the file's name does not matter"});
}

[[noreturn]] void fail_file(const std::filesystem::path& path, const char* action, int error) {
  const bool missing = error == ENOENT || error == ENOTDIR;
  comm::fail(missing ? ExitCode::kInputMissing : ExitCode::kIo, "cannot {} {:?}: {}; {}", action,
             path.native(), std::strerror(error),
             missing ? "check the data's root and images" : "check permissions and the disk");
}

void write_file(const std::filesystem::path& path, std::span<const std::uint8_t> bytes) {
  File file(std::fopen(path.c_str(), "wb"));
  if (!file) fail_file(path, "create", errno);
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file.get()) == bytes.size();
  if (!written || std::fclose(file.release()) != 0) fail_file(path, "write", errno);
}

}  // namespace

std::vector<std::uint8_t> read_file_bytes(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) fail_file(path, "open", error ? error.value() : ENOENT);
  if (!std::filesystem::is_regular_file(status))  // a FIFO would block, a device never end
    comm::fail(ExitCode::kData, "{:?} is not a regular file; give an image file", path.native());
  File file(std::fopen(path.c_str(), "rb"));
  if (!file) fail_file(path, "open", errno);
  const auto num_bytes = std::filesystem::file_size(path, error);
  if (error) fail_file(path, "read", error.value());
  if (num_bytes > static_cast<std::uintmax_t>(kMaxImageFileBytes))
    comm::fail(ExitCode::kData, "{:?} has {} bytes, more than the limit of {}; shrink the image",
               path.native(), num_bytes, kMaxImageFileBytes);
  std::vector<std::uint8_t> bytes(num_bytes);
  const std::size_t num_read = std::fread(bytes.data(), 1, bytes.size(), file.get());
  if (std::ferror(file.get()) != 0) fail_file(path, "read", errno);
  bytes.resize(num_read);
  return bytes;
}

ImageInfo probe_image(const EncodedImage& encoded) {
  return require_format(encoded) == ImageFormat::kJpeg ? probe_jpeg(encoded) : probe_png(encoded);
}

ShrunkImage read_shrunk_image(const EncodedImage& encoded, int min_width, int min_height) {
  if (require_format(encoded) == ImageFormat::kJpeg)
    return decode_jpeg(encoded, min_width, min_height);
  return {decode_png(encoded), probe_png(encoded), 1};
}

Image read_image(const EncodedImage& encoded) {
  if (require_format(encoded) == ImageFormat::kPng) return decode_png(encoded);
  return decode_jpeg(encoded, kMaxImageSide, kMaxImageSide).image;
}

LabelImage read_label_image(const EncodedImage& encoded) {
  if (require_format(encoded) == ImageFormat::kJpeg)
    fail_image(encoded.name, {"a JPEG cannot hold labels, because it changes values", "",
                              "make the labels PNG files of 8 or 16 bit"});
  return decode_label_png(encoded);
}

ImageInfo probe_image(const std::filesystem::path& path) {
  const auto bytes = read_file_bytes(path);
  return probe_image(EncodedImage{bytes, path.native()});
}

Image read_image(const std::filesystem::path& path) {
  const auto bytes = read_file_bytes(path);
  return read_image(EncodedImage{bytes, path.native()});
}

ShrunkImage read_shrunk_image(const std::filesystem::path& path, int min_width, int min_height) {
  const auto bytes = read_file_bytes(path);
  return read_shrunk_image(EncodedImage{bytes, path.native()}, min_width, min_height);
}

LabelImage read_label_image(const std::filesystem::path& path) {
  const auto bytes = read_file_bytes(path);
  return read_label_image(EncodedImage{bytes, path.native()});
}

void write_png(const std::filesystem::path& path, const Image& image) {
  write_file(path, encode_png(image));
}

void write_label_png(const std::filesystem::path& path, const LabelImage& labels,
                     std::span<const Rgb> palette) {
  write_file(path, encode_label_png(labels, palette));
}

const std::vector<Rgb>& voc_palette() {
  static const std::vector<Rgb> palette = [] {
    std::vector<Rgb> colors(256);
    for (int i = 0; i < 256; ++i) {
      int r = 0, g = 0, b = 0;
      for (int bit = 0; bit < 8; ++bit) {
        const int group = i >> (3 * bit) & 7;
        r |= (group & 1) << (7 - bit);
        g |= (group >> 1 & 1) << (7 - bit);
        b |= (group >> 2 & 1) << (7 - bit);
      }
      colors[i] = {static_cast<std::uint8_t>(r), static_cast<std::uint8_t>(g),
                   static_cast<std::uint8_t>(b)};
    }
    return colors;
  }();
  return palette;
}

}  // namespace trainer
