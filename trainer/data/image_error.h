#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "trainer/data/image.h"

namespace trainer {

// Exit 65: `image "NAME": PROBLEM; REMEDY`. Text of the file or decoder goes in as `detail`, quoted
// and with control bytes escaped; empty: left out.
struct ImageProblem {
  std::string_view what;
  std::string_view detail;
  std::string_view remedy;
};
[[noreturn]] void fail_image(std::string_view name, const ImageProblem& problem);

// A damaged file, in the decoder's words.
[[noreturn]] void fail_damaged(const EncodedImage& encoded, std::string_view format,
                               std::string_view decoder_text);

// Throws unless 1 <= width, height <= kMaxImageSide, there are at most kMaxImagePixels pixels, and
// the file is long enough to hold them: no valid file has more than max_pixels_per_byte.
struct HeaderLimits {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::int64_t max_pixels_per_byte = 0;
};
void check_limits(const EncodedImage& encoded, const HeaderLimits& limits);

}  // namespace trainer
