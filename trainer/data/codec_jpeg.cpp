#include "trainer/data/codec_jpeg.h"

#include <csetjmp>
#include <cstdio>  // jpeglib.h needs FILE
#include <cstring>
#include <string>

#include <jerror.h>
#include <jpeglib.h>

#include "trainer/data/exif.h"
#include "trainer/data/image_error.h"

namespace trainer {
namespace {

// A component block of 8 x 8 pixels takes at least one bit of a DC scan, and blocks are not larger.
constexpr std::int64_t kMaxPixelsPerByte = 512;
constexpr long kMaxDecoderBytes = 1L << 30;  // coefficients of 100 megapixels are 600 to 800 MB
constexpr char kExifTag[] = "Exif\0";        // and the array's own 0

// libjpeg reports through hooks that must not return: they jump back into run(), which throws.
class JpegDecoder {
 public:
  explicit JpegDecoder(const EncodedImage& encoded) : encoded_(encoded) {
    state_.info.err = jpeg_std_error(&state_.errors);
    state_.errors.error_exit = on_error;
    state_.errors.emit_message = on_message;
    state_.info.client_data = &state_;
    run([this] { jpeg_create_decompress(&state_.info); });
    state_.info.mem->max_memory_to_use = kMaxDecoderBytes;
    state_.progress.progress_monitor = on_progress;
    state_.info.progress = &state_.progress;
  }
  ~JpegDecoder() { jpeg_destroy_decompress(&state_.info); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  jpeg_decompress_struct& info() { return state_.info; }

  // REQUIRES: `calls` owns nothing at the moment it calls libjpeg, because a jump skips
  // destructors.
  template <typename Calls>
  void run(const Calls& calls) {
    if (setjmp(state_.jump) != 0) fail_damaged(encoded_, "JPEG", state_.message);
    calls();
  }

  void read_header() {
    run([this] {
      jpeg_mem_src(&state_.info, encoded_.bytes.data(), encoded_.bytes.size());
      jpeg_save_markers(&state_.info, JPEG_APP0 + 1, 0xFFFF);
      jpeg_read_header(&state_.info, TRUE);
    });
    check_limits(encoded_, {state_.info.image_width, state_.info.image_height, kMaxPixelsPerByte});
  }

 private:
  struct State {
    jpeg_decompress_struct info = {};
    jpeg_error_mgr errors = {};
    jpeg_progress_mgr progress = {};
    std::jmp_buf jump = {};
    char message[JMSG_LENGTH_MAX] = "";
  };

  [[noreturn]] static void on_error(j_common_ptr info) {
    auto* state = static_cast<State*>(info->client_data);
    info->err->format_message(info, state->message);
    std::longjmp(state->jump, 1);
  }
  static void on_message(j_common_ptr info, int level) {
    if (level < 0) on_error(info);  // a warning
  }
  // Called between rows of a file of several scans: each scan costs a pass over the whole image.
  static void on_progress(j_common_ptr info) {
    auto* state = static_cast<State*>(info->client_data);
    if (state->info.input_scan_number <= kMaxJpegScans) return;
    std::snprintf(state->message, sizeof state->message, "more than %d scans", kMaxJpegScans);
    std::longjmp(state->jump, 1);
  }

  const EncodedImage& encoded_;
  State state_;
};

const char* color_name(J_COLOR_SPACE space) {
  switch (space) {
    case JCS_GRAYSCALE:
      return "gray";
    case JCS_RGB:
      return "RGB";
    case JCS_YCbCr:
      return "YCbCr";
    case JCS_CMYK:
      return "CMYK";
    case JCS_YCCK:
      return "YCCK";
    default:
      return nullptr;
  }
}

ImageInfo describe(const EncodedImage& encoded, const jpeg_decompress_struct& header) {
  const char* color = color_name(header.jpeg_color_space);
  if (color == nullptr)
    fail_image(encoded.name, {"a JPEG of " + std::to_string(header.num_components) +
                                  " components of no known colour",
                              "", "convert it to an RGB or gray JPEG or PNG"});
  Orientation orientation;
  for (const auto* marker = header.marker_list; marker != nullptr; marker = marker->next) {
    if (marker->data_length < 6 || std::memcmp(marker->data, kExifTag, 6) != 0) continue;
    orientation = parse_orientation({marker->data + 6, marker->data_length - 6});
    break;
  }
  ImageInfo info;
  info.format = ImageFormat::kJpeg;
  info.width = static_cast<int>(header.image_width);
  info.height = static_cast<int>(header.image_height);
  if (swaps_axes(orientation.value)) std::swap(info.width, info.height);
  info.encoding = std::string("JPEG ") + (header.arith_code ? "arithmetic " : "") +
                  (header.progressive_mode ? "progressive " : "baseline ") + color;
  info.orientation = orientation.value;
  info.orientation_ignored = orientation.ignored;
  return info;
}

// With a turned or mirrored image the last, partial block would come first: such sizes decode
// whole.
int choose_shrink(const ImageInfo& info, int min_width, int min_height) {
  for (const int shrink : {8, 4, 2}) {
    const bool whole = info.width % shrink == 0 && info.height % shrink == 0;
    if (info.orientation != 1 && !whole) continue;
    if (info.width / shrink >= min_width && info.height / shrink >= min_height) return shrink;
  }
  return 1;
}

// round(a b / 255) for a, b in 0..255
int multiply_255(int a, int b) {
  const int t = a * b + 128;
  return (t + (t >> 8)) >> 8;
}

void cmyk_to_rgb(const std::uint8_t* cmyk, std::size_t num_pixels, std::uint8_t* rgb) {
  for (std::size_t i = 0; i < num_pixels; ++i) {
    const int k = cmyk[4 * i + 3];
    for (int c = 0; c < 3; ++c)
      rgb[3 * i + c] = static_cast<std::uint8_t>(k - multiply_255(255 - cmyk[4 * i + c], k));
  }
}

void read_pixels(JpegDecoder& decoder, Image& image) {
  auto& header = decoder.info();
  const bool cmyk = header.out_color_space == JCS_CMYK;
  const std::size_t row_pixels = header.output_width;
  std::vector<std::uint8_t> cmyk_row(cmyk ? 4 * row_pixels : 0);
  image.width = static_cast<int>(header.output_width);
  image.height = static_cast<int>(header.output_height);
  image.rgb.resize(3 * row_pixels * header.output_height);
  std::uint8_t* pixels = image.rgb.data();
  std::uint8_t* inks = cmyk_row.data();
  decoder.run([&header, cmyk, row_pixels, pixels, inks] {
    while (header.output_scanline < header.output_height) {
      std::uint8_t* row = pixels + 3 * row_pixels * header.output_scanline;
      JSAMPROW target = cmyk ? inks : row;
      jpeg_read_scanlines(&header, &target, 1);
      if (cmyk) cmyk_to_rgb(inks, row_pixels, row);
    }
    jpeg_finish_decompress(&header);
  });
}

}  // namespace

ImageInfo probe_jpeg(const EncodedImage& encoded) {
  JpegDecoder decoder(encoded);
  decoder.read_header();
  return describe(encoded, decoder.info());
}

ShrunkImage decode_jpeg(const EncodedImage& encoded, int min_width, int min_height) {
  JpegDecoder decoder(encoded);
  decoder.read_header();
  auto& header = decoder.info();
  ShrunkImage result;
  result.info = describe(encoded, header);
  result.shrink = choose_shrink(result.info, min_width, min_height);
  const bool four = header.jpeg_color_space == JCS_CMYK || header.jpeg_color_space == JCS_YCCK;
  header.out_color_space = four ? JCS_CMYK : JCS_RGB;
  header.dct_method = JDCT_ISLOW;
  header.scale_num = 1;
  header.scale_denom = static_cast<unsigned>(result.shrink);
  decoder.run([&header] { jpeg_start_decompress(&header); });
  Image& image = result.image;
  read_pixels(decoder, image);
  const int orientation = result.info.orientation;
  if (orientation != 1) {
    image.rgb = apply_orientation(image.rgb, image.width, image.height, 3, orientation);
    if (swaps_axes(orientation)) std::swap(image.width, image.height);
  }
  return result;
}

}  // namespace trainer
