#include "trainer/data/image_error.h"

#include <string>

#include "comm/error.h"

namespace trainer {

using comm::ExitCode;

void fail_image(std::string_view name, const ImageProblem& problem) {
  if (problem.detail.empty())
    comm::fail(ExitCode::kData, "image {:?}: {}; {}", name, problem.what, problem.remedy);
  comm::fail(ExitCode::kData, "image {:?}: {} {:?}; {}", name, problem.what, problem.detail,
             problem.remedy);
}

void fail_damaged(const EncodedImage& encoded, std::string_view format,
                  std::string_view decoder_text) {
  const std::string what =
      fmt::format("damaged {} of {} bytes, the decoder says", format, encoded.bytes.size());
  fail_image(encoded.name, {what, decoder_text, "get the file again or remove it from the data"});
}

void check_limits(const EncodedImage& encoded, const HeaderLimits& limits) {
  const std::int64_t width = limits.width;
  const std::int64_t height = limits.height;
  if (width < 1 || height < 1)
    fail_image(encoded.name, {fmt::format("the header says {} x {} pixels", width, height), "",
                              "get the file again or remove it from the data"});
  if (width > kMaxImageSide || height > kMaxImageSide || width * height > kMaxImagePixels)
    fail_image(encoded.name,
               {fmt::format("{} x {} pixels are beyond the limit of {} a side and {} in all", width,
                            height, kMaxImageSide, kMaxImagePixels),
                "", "scale or tile the image"});
  const auto num_bytes = static_cast<std::int64_t>(encoded.bytes.size());
  if (width * height > num_bytes * limits.max_pixels_per_byte)
    fail_image(encoded.name,
               {fmt::format("the header says {} x {} pixels, more than {} bytes can hold", width,
                            height, num_bytes),
                "", "get the file again or remove it from the data"});
}

}  // namespace trainer
