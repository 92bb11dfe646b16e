#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace trainer {

struct Orientation {
  int value = 1;         // 1..8, EXIF 2.3 table 6
  bool ignored = false;  // the tag is there but holds 0 or nonsense
};

// Finds tag 0x0112 in the first directory of a TIFF block (what follows "Exif\0\0" in JPEG's APP1,
// or PNG's eXIf). Never fails: a damaged block has no orientation.
Orientation parse_orientation(std::span<const std::uint8_t> tiff);

inline bool swaps_axes(int orientation) { return orientation >= 5; }

// Turns pixels of `channels` values each as stored, (height, width), into the upright image, which
// is (width, height) when swaps_axes(orientation). Orientation k says where the stored row 0 and
// column 0 belong: 1 top left, 2 top right, 3 bottom right, 4 bottom left, 5 left top, 6 right top,
// 7 right bottom, 8 left bottom.
template <typename T>
std::vector<T> apply_orientation(const std::vector<T>& stored, int width, int height, int channels,
                                 int orientation) {
  const bool swap = swaps_axes(orientation);
  const bool from_right =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const int out_width = swap ? height : width;
  const int out_height = swap ? width : height;
  std::vector<T> upright(stored.size());
  std::size_t at = 0;
  for (int y = 0; y < out_height; ++y) {
    for (int x = 0; x < out_width; ++x) {
      int column = swap ? y : x;
      int row = swap ? x : y;
      if (from_right) column = width - 1 - column;
      if (from_bottom) row = height - 1 - row;
      const std::size_t from = (static_cast<std::size_t>(row) * width + column) * channels;
      for (int c = 0; c < channels; ++c) upright[at++] = stored[from + c];
    }
  }
  return upright;
}

}  // namespace trainer
