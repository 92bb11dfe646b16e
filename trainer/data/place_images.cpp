// The kernel that makes packed images the network's input; apart from what packs them, because
// nvcc compiles it.
#include "comm/bf16.h"
#include "comm/parallel.h"
#include "trainer/data/packed_image.h"

namespace trainer {
namespace {

// One pixel of the input. Sums are taken in letterbox()'s order: down, then across.
template <typename T, int kChannels>
struct PlacePixel {
  const std::byte* packed;
  std::int64_t stride_bytes;
  T* out;
  std::int64_t height, width;
  bool channels_last;

  RIDGELINE_HD void operator()(std::int64_t i) const {
    const std::int64_t plane = height * width, n = i / plane, at = i % plane;
    const int y = static_cast<int>(at / width), x = static_cast<int>(at % width);
    const std::byte* const base = packed + n * stride_bytes;
    const auto& image = *reinterpret_cast<const PackedImage*>(base);
    float value[kChannels] = {};
    if (image.kind == PackedImage::Kind::kFinished) {
      const auto* from = reinterpret_cast<const float*>(base + image.pixels_at);
      for (int c = 0; c < kChannels; ++c) value[c] = from[c * plane + at];
    } else if (image.kind == PackedImage::Kind::kPixels && x < image.content_w &&
               y < image.content_h) {
      resample(image, base, x, y, value);
    }
    for (int c = 0; c < kChannels; ++c)
      out[channels_last ? i * kChannels + c : (n * kChannels + c) * plane + at] = value[c];
  }

  RIDGELINE_HD static void resample(const PackedImage& image, const std::byte* base, int x, int y,
                                    float* value) {
    const PackedImage::Filter &across = image.across, &down = image.down;
    const int column = reinterpret_cast<const std::int32_t*>(base + across.start_at)[x];
    const int row = reinterpret_cast<const std::int32_t*>(base + down.start_at)[y];
    const float* wx = reinterpret_cast<const float*>(base + across.weight_at) + x * across.num;
    const float* wy = reinterpret_cast<const float*>(base + down.weight_at) + y * down.num;
    const int num_x = least(across.num, across.extent - column);
    const int num_y = least(down.num, down.extent - row);
    const int row_bytes = across.extent * kChannels;
    const auto* first = reinterpret_cast<const std::uint8_t*>(base + image.pixels_at) +
                        static_cast<std::int64_t>(row) * row_bytes + column * kChannels;
    for (int kx = 0; kx < num_x; ++kx)
      for (int c = 0; c < kChannels; ++c)
        value[c] += wx[kx] * mixed(first + kx * kChannels + c, row_bytes, wy, num_y);
    for (int c = 0; c < kChannels; ++c)
      value[c] = image.scales ? image.gain[c] * value[c] + image.shift[c]
                              : (value[c] / 255.0f - image.mean[c]) / image.std[c];
  }

  // A column of the source, its rows in pairs as in letterbox().
  RIDGELINE_HD static float mixed(const std::uint8_t* source, std::int64_t row_bytes,
                                  const float* weight, int num) {
    float sum = weight[0] * source[0];
    int k = 1;
    for (; k + 1 < num; k += 2)
      sum += weight[k] * source[k * row_bytes] + weight[k + 1] * source[(k + 1) * row_bytes];
    if (k < num) sum += weight[k] * source[k * row_bytes];
    return sum;
  }

  RIDGELINE_HD static int least(int a, int b) { return a < b ? a : b; }
};

template <typename T, int kChannels>
void place(comm::StreamView stream, const PackedImages& packed, const NetworkImages& out) {
  const PlacePixel<T, kChannels> body{packed.data,
                                      static_cast<std::int64_t>(packed.stride_bytes),
                                      reinterpret_cast<T*>(out.data),
                                      out.height,
                                      out.width,
                                      out.channels_last};
  comm::parallel_for(stream, out.num * out.height * out.width, body, 512);
}

}  // namespace

void place_images(comm::StreamView stream, const PackedImages& packed, const NetworkImages& out) {
  REQUIRE(out.channels == 1 || out.channels == 3, "{} channels", out.channels);
  const bool gray = out.channels == 1;
  if (out.bf16)
    gray ? place<comm::Bf16, 1>(stream, packed, out) : place<comm::Bf16, 3>(stream, packed, out);
  else
    gray ? place<float, 1>(stream, packed, out) : place<float, 3>(stream, packed, out);
}

}  // namespace trainer
