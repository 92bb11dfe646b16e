#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "comm/stream.h"
#include "trainer/data/letterbox.h"

// What threads of the host leave to a GPU: an image as it was decoded, and the filters that make it
// the network's input. letterbox() on the host gives the same values. One AVX-512 core makes 800 x
// 800 inputs of 640 x 480 JPEGs at 260 (coco_mini) to 390 (bccd) images/s, or packs 520 to 1300.
namespace trainer {

// The head of one packed image. Taps and pixels follow, at byte offsets from the head.
struct PackedImage {
  enum class Kind : std::int32_t {
    kNone,      // there is no image: zeros
    kPixels,    // (height, width, channels) bytes, to be resized and normalised
    kFinished,  // (channels, H, W) floats that letterbox() made
  };
  // Pixel i of the content is the sum over k < num, start + k < extent, of weight[i num + k] times
  // the pixel start[i] + k (resize_taps.h).
  struct Filter {
    std::int32_t num, extent;
    std::int32_t start_at, weight_at;
  };

  Kind kind;
  std::int32_t used_bytes;  // head, taps and pixels
  std::int32_t pixels_at;
  std::int32_t content_w, content_h;  // pixels of the network's input; the rest is padding
  std::int32_t scales;                // 0: values in torchvision's order of operations
  Filter across, down;
  float mean[3], std[3];    // scales == 0: out = (v / 255 - mean) / std
  float gain[3], shift[3];  // else: out = gain v + shift
};

// Room for one image of `network` pixels: as many bytes as its floats, so for four decoded pixels
// to one of the input, besides filters of up to four taps. A JPEG that the decoder may shrink needs
// less unless it is more than 16 times too large; what does not fit (a large PNG, a large image
// without antialiasing) is resized by the host.
std::size_t packed_capacity(Size network, int channels);

// Packs what letterbox(image, geometry, network, options) reads, without pixels that a crop leaves
// out. `channels`: 3, or 1 for the first plane alone. REQUIRES: as letterbox(); out is aligned to 4
// bytes and has the capacity.
struct PackTarget {
  Size network;
  int channels = 3;
  std::span<std::byte> out;
};
void pack_image(const Image& image, const Geometry& geometry, const LetterboxOptions& options,
                const PackTarget& target);
void pack_nothing(std::span<std::byte> out);

// The bytes of a packed image that are in use.
std::span<const std::byte> used_part(std::span<const std::byte> packed);

// The network's input, in memory of a device: (N, C, H, W) float, or with channels_last (N, H, W,
// C); bf16: comm::Bf16, rounded once.
struct NetworkImages {
  std::byte* data = nullptr;
  bool bf16 = false, channels_last = false;
  std::int64_t num = 0, channels = 0, height = 0, width = 0;
};

// One kernel: scales, crops, flips, normalises and pads images that lie stride_bytes apart.
// ASYNC: in the order of the stream. REQUIRES: memory of the stream's device; channels 1 or 3.
struct PackedImages {
  const std::byte* data = nullptr;
  std::size_t stride_bytes = 0;
};
void place_images(comm::StreamView stream, const PackedImages& packed, const NetworkImages& out);

}  // namespace trainer
