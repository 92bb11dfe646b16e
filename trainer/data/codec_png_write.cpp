#include <algorithm>
#include <csetjmp>
#include <cstdio>

#include <png.h>

#include "comm/error.h"
#include "trainer/data/image.h"

namespace trainer {
namespace {

class PngEncoder {
 public:
  PngEncoder() {
    png_ = png_create_write_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_write_struct(&png_, nullptr);
      throw std::bad_alloc();
    }
  }
  ~PngEncoder() { png_destroy_write_struct(&png_, &info_); }
  PngEncoder(const PngEncoder&) = delete;
  PngEncoder& operator=(const PngEncoder&) = delete;

  struct Picture {
    int width, height;
    int color_type, bit_depth;
    std::span<const std::uint8_t> bytes;  // rows without gaps
    std::span<const png_color> palette = {};
  };

  std::vector<std::uint8_t> encode(const Picture& picture) {
    REQUIRE(picture.width > 0 && picture.height > 0, "a picture of {} x {}", picture.width,
            picture.height);
    if (setjmp(jump_) != 0) comm::fail(comm::ExitCode::kBug, "libpng cannot encode: {}", message_);
    write(picture);
    return std::move(bytes_);
  }

 private:
  void write(const Picture& picture) {
    png_set_write_fn(png_, this, on_write, nullptr);
    png_set_IHDR(png_, info_, static_cast<png_uint_32>(picture.width),
                 static_cast<png_uint_32>(picture.height), picture.bit_depth, picture.color_type,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (!picture.palette.empty())
      png_set_PLTE(png_, info_, picture.palette.data(), static_cast<int>(picture.palette.size()));
    png_write_info(png_, info_);
    const std::size_t row_bytes = picture.bytes.size() / static_cast<std::size_t>(picture.height);
    for (int y = 0; y < picture.height; ++y)
      png_write_row(png_, picture.bytes.data() + static_cast<std::size_t>(y) * row_bytes);
    png_write_end(png_, info_);
  }

  [[noreturn]] static void on_error(png_structp png, png_const_charp text) {
    auto* self = static_cast<PngEncoder*>(png_get_error_ptr(png));
    std::snprintf(self->message_, sizeof self->message_, "%s", text);
    std::longjmp(self->jump_, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}
  static void on_write(png_structp png, png_bytep data, std::size_t count) {
    auto* self = static_cast<PngEncoder*>(png_get_io_ptr(png));
    self->bytes_.insert(self->bytes_.end(), data, data + count);
  }

  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::vector<std::uint8_t> bytes_;
  std::jmp_buf jump_ = {};
  char message_[256] = "";
};

}  // namespace

std::vector<std::uint8_t> encode_png(const Image& image) {
  REQUIRE(image.rgb.size() == std::size_t{3} * image.width * image.height, "{} bytes for {} x {}",
          image.rgb.size(), image.width, image.height);
  return PngEncoder().encode({image.width, image.height, PNG_COLOR_TYPE_RGB, 8, image.rgb});
}

std::vector<std::uint8_t> encode_label_png(const LabelImage& labels, std::span<const Rgb> palette) {
  REQUIRE(palette.size() <= 256, "a palette of {}", palette.size());
  REQUIRE(labels.pixels.size() == static_cast<std::size_t>(labels.width) * labels.height,
          "{} pixels for {} x {}", labels.pixels.size(), labels.width, labels.height);
  std::vector<std::uint8_t> bytes;
  if (palette.empty()) {
    bytes.reserve(2 * labels.pixels.size());
    for (const std::uint16_t label : labels.pixels) {  // PNG is big-endian
      bytes.push_back(static_cast<std::uint8_t>(label >> 8));
      bytes.push_back(static_cast<std::uint8_t>(label & 255));
    }
    return PngEncoder().encode({labels.width, labels.height, PNG_COLOR_TYPE_GRAY, 16, bytes});
  }
  REQUIRE(std::ranges::all_of(labels.pixels,
                              [&](int v) { return v < static_cast<int>(palette.size()); }),
          "a label beyond the palette of {}", palette.size());
  bytes.assign(labels.pixels.begin(), labels.pixels.end());
  std::vector<png_color> colors;
  for (const Rgb& color : palette) colors.push_back({color.r, color.g, color.b});
  return PngEncoder().encode(
      {labels.width, labels.height, PNG_COLOR_TYPE_PALETTE, 8, bytes, colors});
}

}  // namespace trainer
