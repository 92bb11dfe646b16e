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
    const std::uint8_t* pixels;
    std::span<const png_color> palette;  // empty: RGB
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
    const bool indexed = !picture.palette.empty();
    png_set_write_fn(png_, this, on_write, nullptr);
    png_set_IHDR(png_, info_, static_cast<png_uint_32>(picture.width),
                 static_cast<png_uint_32>(picture.height), 8,
                 indexed ? PNG_COLOR_TYPE_PALETTE : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (indexed)
      png_set_PLTE(png_, info_, picture.palette.data(), static_cast<int>(picture.palette.size()));
    png_write_info(png_, info_);
    const std::size_t row_bytes = static_cast<std::size_t>(picture.width) * (indexed ? 1 : 3);
    for (int y = 0; y < picture.height; ++y) png_write_row(png_, picture.pixels + y * row_bytes);
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
  return PngEncoder().encode({image.width, image.height, image.rgb.data(), {}});
}

std::vector<std::uint8_t> encode_label_png(const LabelImage& labels, std::span<const Rgb> palette) {
  REQUIRE(!palette.empty() && palette.size() <= 256, "a palette of {}", palette.size());
  std::vector<std::uint8_t> pixels(labels.pixels.begin(), labels.pixels.end());
  REQUIRE(pixels.size() == static_cast<std::size_t>(labels.width) * labels.height,
          "{} pixels for {} x {}", pixels.size(), labels.width, labels.height);
  REQUIRE(std::ranges::all_of(labels.pixels,
                              [&](int v) { return v < static_cast<int>(palette.size()); }),
          "a label beyond the palette of {}", palette.size());
  std::vector<png_color> colors;
  for (const Rgb& color : palette) colors.push_back({color.r, color.g, color.b});
  return PngEncoder().encode({labels.width, labels.height, pixels.data(), colors});
}

}  // namespace trainer
