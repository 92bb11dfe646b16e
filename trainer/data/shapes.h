#pragma once

#include <cstdint>
#include <vector>

#include "trainer/data/image.h"
#include "trainer/data/transform.h"

namespace trainer {

// Built-in synthetic images that need no files: 1 to 6 circles, rectangles and triangles of random
// colours and sizes on a noisy background. Index 0 is the background.
inline constexpr const char* kShapesClasses[] = {"circle", "rectangle", "triangle"};
inline constexpr int kMaxShapes = 6;

struct DrawnShape {
  int label = 1;                   // 1 circle, 2 rectangle, 3 triangle
  Corners box = {};                // the smallest box around the pixels of the whole shape
  std::vector<std::uint8_t> mask;  // (H, W) of 0, 1: what is visible (nothing nearer covers it)
};

struct ShapesSample {
  Image image;
  LabelImage labels;               // the nearest shape's class at each pixel, 0 = background
  std::vector<DrawnShape> shapes;  // from far to near
};

// A pure function of its arguments (Philox, Purpose::kSynthetic). Sides are 12 to 50 % of the
// image's smaller side (aspect 1:2 to 2:1); at most about a quarter of a box lies under all others
// together. REQUIRES: width, height >= 8.
ShapesSample draw_shapes(std::uint64_t seed, std::uint64_t index, int width, int height);

}  // namespace trainer
