#include "trainer/data/shapes.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tests/trainer/data/image_fixtures.h"
#include "trainer/data/letterbox.h"

namespace trainer {
namespace {

Corners extent(const std::vector<std::uint8_t>& mask, int width) {
  double x1 = 1e9, y1 = 1e9, x2 = 0, y2 = 0;
  for (std::size_t i = 0; i < mask.size(); ++i) {
    if (mask[i] == 0) continue;
    const double x = static_cast<double>(i % width), y = static_cast<double>(i / width);
    x1 = std::min(x1, x), y1 = std::min(y1, y);
    x2 = std::max(x2, x + 1), y2 = std::max(y2, y + 1);
  }
  return {x1, y1, x2, y2};
}

TEST(Shapes, APureFunctionOfItsArguments) {
  const ShapesSample a = draw_shapes(7, 3, 96, 64);
  const ShapesSample b = draw_shapes(7, 3, 96, 64);
  EXPECT_EQ(a.image.rgb, b.image.rgb);
  EXPECT_EQ(a.labels.pixels, b.labels.pixels);
  EXPECT_NE(draw_shapes(8, 3, 96, 64).image.rgb, a.image.rgb);
  EXPECT_NE(draw_shapes(7, 4, 96, 64).image.rgb, a.image.rgb);
  EXPECT_NE(draw_shapes(7, 3 + (std::uint64_t{1} << 32), 96, 64).image.rgb, a.image.rgb);
}

TEST(Shapes, MasksLabelsAndBoxesAgree) {
  for (std::uint64_t index = 0; index < 60; ++index) {
    const int width = 64 + static_cast<int>(index), height = 160 - static_cast<int>(index);
    const ShapesSample s = draw_shapes(1, index, width, height);
    ASSERT_GE(s.shapes.size(), 1u);
    ASSERT_LE(s.shapes.size(), static_cast<std::size_t>(kMaxShapes));
    std::vector<std::uint16_t> labels(s.labels.pixels.size(), 0);
    for (std::size_t k = 0; k < s.shapes.size(); ++k) {
      const DrawnShape& shape = s.shapes[k];
      const Corners visible = extent(shape.mask, width);
      for (const int i : {0, 1}) EXPECT_GE(visible[i], shape.box[i]);
      for (const int i : {2, 3}) EXPECT_LE(visible[i], shape.box[i]);
      if (k + 1 == s.shapes.size()) {
        EXPECT_EQ(visible, shape.box);
      }
      EXPECT_GE(shape.box[0], 0);
      EXPECT_LE(shape.box[2], width);
      EXPECT_LE(shape.box[3], height);
      for (std::size_t i = 0; i < labels.size(); ++i) {
        if (shape.mask[i] == 0) continue;
        ASSERT_EQ(labels[i], 0) << "two masks share a pixel";
        labels[i] = static_cast<std::uint16_t>(shape.label);
      }
    }
    EXPECT_EQ(labels, s.labels.pixels);
  }
}

TEST(Shapes, SizesAndClassesCoverTheirRange) {
  std::array<int, 4> per_class = {};
  std::array<int, kMaxShapes + 1> per_count = {};
  double smallest = 1, largest = 0;
  for (std::uint64_t index = 0; index < 400; ++index) {
    const ShapesSample s = draw_shapes(2, index, 128, 128);
    ++per_count[s.shapes.size()];
    for (const DrawnShape& shape : s.shapes) {
      ++per_class[shape.label];
      const double w = (shape.box[2] - shape.box[0]) / 128, h = (shape.box[3] - shape.box[1]) / 128;
      EXPECT_LE(std::max(w, h), 0.5 + 1.0 / 128);
      EXPECT_GE(std::sqrt(w * h), 0.09);
      smallest = std::min(smallest, std::sqrt(w * h));
      largest = std::max(largest, std::sqrt(w * h));
    }
  }
  for (int label = 1; label <= 3; ++label) EXPECT_GT(per_class[label], 200);
  for (int count = 1; count <= kMaxShapes; ++count) EXPECT_GT(per_count[count], 10) << count;
  EXPECT_LT(smallest, 0.15);
  EXPECT_GT(largest, 0.45);
}

// How much of its box a shape fills tells its class: circle pi / 4, rectangle 1, triangle 1 / 2.
TEST(Shapes, TheFormFollowsTheClass) {
  constexpr double kFill[] = {0, 0.7854, 1.0, 0.5};
  for (std::uint64_t index = 0; index < 100; ++index) {
    const DrawnShape shape = draw_shapes(3, index, 256, 256).shapes.back();
    const double area = (shape.box[2] - shape.box[0]) * (shape.box[3] - shape.box[1]);
    const auto covered = std::count(shape.mask.begin(), shape.mask.end(), 1);
    EXPECT_NEAR(static_cast<double>(covered) / area, kFill[shape.label], 0.04);
  }
}

TEST(Shapes, EnoughOfEachIsVisibleAndStandsOut) {
  for (std::uint64_t index = 0; index < 100; ++index) {
    const ShapesSample s = draw_shapes(4, index, 128, 128);
    std::array<double, 3> ground = {}, color = {};
    double num_ground = 0;
    for (std::size_t i = 0; i < s.labels.pixels.size(); ++i) {
      if (s.labels.pixels[i] != 0) continue;
      ++num_ground;
      for (int c = 0; c < 3; ++c) ground[c] += s.image.rgb[3 * i + c];
    }
    for (const DrawnShape& shape : s.shapes) {
      const double area = (shape.box[2] - shape.box[0]) * (shape.box[3] - shape.box[1]);
      const auto num = static_cast<double>(std::count(shape.mask.begin(), shape.mask.end(), 1));
      EXPECT_GT(num, 0.15 * area);
      color = {};
      for (std::size_t i = 0; i < shape.mask.size(); ++i)
        for (int c = 0; c < 3; ++c) color[c] += shape.mask[i] * s.image.rgb[3 * i + c];
      double contrast = 0;
      for (int c = 0; c < 3; ++c) contrast += std::abs(color[c] / num - ground[c] / num_ground);
      EXPECT_GT(contrast, 70);
    }
  }
}

TEST(Shapes, FlippedBoxesFollowFlippedMasks) {
  for (std::uint64_t index = 0; index < 20; ++index) {
    const ShapesSample s = draw_shapes(5, index, 90, 70);
    for (int flips = 0; flips < 4; ++flips) {
      Geometry g = same_geometry({90, 70}, {90, 70});
      g.flip = (flips & 1) != 0;
      g.vflip = (flips & 2) != 0;
      std::vector<std::uint8_t> mask(90 * 70);
      const DrawnShape& nearest = s.shapes.back();
      letterbox_mask(nearest.mask, g, {90, 70}, mask);
      EXPECT_EQ(extent(mask, 90), to_network(g, nearest.box));
    }
  }
}

TEST(Shapes, AnySize) {
  for (const auto& [width, height] : {std::pair{8, 8}, {8, 300}, {300, 8}, {1000, 700}}) {
    const ShapesSample s = draw_shapes(6, 0, width, height);
    EXPECT_EQ(s.image.rgb.size(), std::size_t{3} * width * height);
    for (const DrawnShape& shape : s.shapes) EXPECT_GT(shape.box[2], shape.box[0]);
  }
  fixture::expect_error([] { draw_shapes(6, 0, 7, 8); }, comm::ExitCode::kBug, {"7 x 8"});
}

}  // namespace
}  // namespace trainer
