#include "trainer/data/codec_png.h"

#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

#include <png.h>

#include "comm/error.h"
#include "trainer/data/exif.h"
#include "trainer/data/image_error.h"

namespace trainer {
namespace {

constexpr std::int64_t kMaxPixelsPerByte = 8 * 1032;  // deflate's best ratio at 1 bit a pixel
constexpr png_alloc_size_t kMaxChunkBytes = 8u << 20;

// libpng reports through hooks that must not return: they jump back into run(), which throws.
class PngDecoder {
 public:
  explicit PngDecoder(const EncodedImage& encoded) : encoded_(encoded) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
  }
  ~PngDecoder() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;

  png_structp png() { return png_; }
  png_infop info() { return info_; }

  // REQUIRES: `calls` owns nothing at the moment it calls libpng, because a jump skips destructors.
  template <typename Calls>
  void run(const Calls& calls) {
    if (setjmp(jump_) != 0) fail_damaged(encoded_, "PNG", message_);
    calls();
  }

  void read_header() {
    run([this] {
      png_set_read_fn(png_, this, on_read);
      png_set_user_limits(png_, kMaxImageSide, kMaxImageSide);
      png_set_chunk_malloc_max(png_, kMaxChunkBytes);
      skip_ancillary_chunks();
      png_read_info(png_, info_);
    });
    check_limits(encoded_, {png_get_image_width(png_, info_), png_get_image_height(png_, info_),
                            kMaxPixelsPerByte});
  }

 private:
  void skip_ancillary_chunks() {
    static constexpr png_byte kNames[] =
        "bKGD\0cHRM\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0"
        "sBIT\0sCAL\0sPLT\0sRGB\0tEXt\0tIME\0tRNS\0zTXt";
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, 0);
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, kNames, sizeof kNames / 5);
  }

  [[noreturn]] static void on_error(png_structp png, png_const_charp text) {
    auto* self = static_cast<PngDecoder*>(png_get_error_ptr(png));
    std::snprintf(self->message_, sizeof self->message_, "%s", text);
    std::longjmp(self->jump_, 1);
  }
  static void on_warning(png_structp png, png_const_charp text) {
    if (std::strncmp(text, "eXIf", 4) != 0) on_error(png, text);  // no orientation is no damage
  }
  static void on_read(png_structp png, png_bytep out, std::size_t count) {
    auto* self = static_cast<PngDecoder*>(png_get_io_ptr(png));
    const auto rest = self->encoded_.bytes.subspan(self->at_);
    if (rest.size() < count) on_error(png, "premature end of file");
    std::memcpy(out, rest.data(), count);
    self->at_ += count;
  }

  const EncodedImage& encoded_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::size_t at_ = 0;
  std::jmp_buf jump_ = {};
  char message_[256] = "";
};

const char* color_name(int color_type) {
  switch (color_type) {
    case PNG_COLOR_TYPE_GRAY:
      return "gray";
    case PNG_COLOR_TYPE_GRAY_ALPHA:
      return "gray with alpha";
    case PNG_COLOR_TYPE_PALETTE:
      return "palette";
    case PNG_COLOR_TYPE_RGB:
      return "RGB";
    default:
      return "RGBA";
  }
}

ImageInfo describe(PngDecoder& decoder) {
  png_structp png = decoder.png();
  png_infop header = decoder.info();
  Orientation orientation;
  png_uint_32 num_exif = 0;
  png_bytep exif = nullptr;
  if (png_get_eXIf_1(png, header, &num_exif, &exif) != 0)
    orientation = parse_orientation({exif, num_exif});
  ImageInfo info;
  info.format = ImageFormat::kPng;
  info.width = static_cast<int>(png_get_image_width(png, header));
  info.height = static_cast<int>(png_get_image_height(png, header));
  if (swaps_axes(orientation.value)) std::swap(info.width, info.height);
  info.encoding = std::string("PNG ") + color_name(png_get_color_type(png, header)) + " " +
                  std::to_string(png_get_bit_depth(png, header)) + " bit" +
                  (png_get_interlace_type(png, header) != 0 ? " interlaced" : "");
  info.orientation = orientation.value;
  info.orientation_ignored = orientation.ignored;
  return info;
}

void request_rgb(png_structp png, png_infop header) {
  const int color = png_get_color_type(png, header);
  const int depth = png_get_bit_depth(png, header);
  if (depth == 16) png_set_strip_16(png);
  if (color == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (color == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png);
  if ((color & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(png);
  if ((color & PNG_COLOR_MASK_ALPHA) != 0) png_set_strip_alpha(png);
}

// Runs the transformations requested so far. `pixels` has pixel_bytes for each pixel.
void read_rows(PngDecoder& decoder, std::uint8_t* pixels, std::size_t pixel_bytes) {
  png_structp png = decoder.png();
  png_infop header = decoder.info();
  const std::size_t row_bytes = png_get_image_width(png, header) * pixel_bytes;
  std::vector<png_bytep> rows(png_get_image_height(png, header));
  for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = pixels + y * row_bytes;
  std::size_t decoder_row_bytes = 0;
  decoder.run([png, header, &decoder_row_bytes] {
    png_set_interlace_handling(png);
    png_read_update_info(png, header);
    decoder_row_bytes = png_get_rowbytes(png, header);
  });
  REQUIRE(decoder_row_bytes == row_bytes, "{} bytes a row, not {}", decoder_row_bytes, row_bytes);
  decoder.run([png, &rows] {
    png_read_image(png, rows.data());
    png_read_end(png, nullptr);
  });
}

template <typename Pixels>
void make_upright(Pixels& pixels, const ImageInfo& info, int channels) {
  if (info.orientation == 1) return;
  const bool swap = swaps_axes(info.orientation);
  const int stored_width = swap ? info.height : info.width;
  const int stored_height = swap ? info.width : info.height;
  pixels = apply_orientation(pixels, stored_width, stored_height, channels, info.orientation);
}

[[noreturn]] void fail_not_labels(const EncodedImage& encoded, const ImageInfo& info) {
  fail_image(encoded.name,
             {"a label image must be gray or palette, but this is " + info.encoding, "",
              "write each pixel's class number as an 8- or 16-bit gray PNG (with PIL: map the "
              "colours to numbers with numpy, then Image.fromarray(numbers.astype('uint8')))"});
}

}  // namespace

ImageInfo probe_png(const EncodedImage& encoded) {
  PngDecoder decoder(encoded);
  decoder.read_header();
  return describe(decoder);
}

Image decode_png(const EncodedImage& encoded) {
  PngDecoder decoder(encoded);
  decoder.read_header();
  const ImageInfo info = describe(decoder);
  Image image{info.width, info.height, {}};
  image.rgb.resize(std::size_t{3} * info.width * info.height);
  decoder.run([&decoder] { request_rgb(decoder.png(), decoder.info()); });
  read_rows(decoder, image.rgb.data(), 3);
  make_upright(image.rgb, info, 3);
  return image;
}

LabelImage decode_label_png(const EncodedImage& encoded) {
  PngDecoder decoder(encoded);
  decoder.read_header();
  const ImageInfo info = describe(decoder);
  const int color = png_get_color_type(decoder.png(), decoder.info());
  if (color != PNG_COLOR_TYPE_GRAY && color != PNG_COLOR_TYPE_PALETTE)
    fail_not_labels(encoded, info);
  const bool wide = png_get_bit_depth(decoder.png(), decoder.info()) == 16;
  decoder.run([&decoder] { png_set_packing(decoder.png()); });
  LabelImage labels{info.width, info.height, {}};
  const std::size_t num_pixels = static_cast<std::size_t>(info.width) * info.height;
  std::vector<std::uint8_t> stored((wide ? 2 : 1) * num_pixels);
  read_rows(decoder, stored.data(), wide ? 2 : 1);
  labels.pixels.resize(num_pixels);
  for (std::size_t i = 0; i < num_pixels; ++i)  // PNG is big-endian
    labels.pixels[i] =
        static_cast<std::uint16_t>(wide ? stored[2 * i] << 8 | stored[2 * i + 1] : stored[i]);
  make_upright(labels.pixels, info, 1);
  return labels;
}

}  // namespace trainer
