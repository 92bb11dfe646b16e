#include "trainer/report/pictures.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <tuple>

#include "comm/error.h"

namespace trainer {
namespace {

constexpr Rgb kWhite = {255, 255, 255};
constexpr Rgb kGround = {10, 20, 30};

bool same(Rgb a, Rgb b) { return a.r == b.r && a.g == b.g && a.b == b.b; }

int count(const Image& image, Rgb color) {
  const Canvas canvas(image);
  int num_found = 0;
  for (int y = 0; y < canvas.height(); ++y)
    for (int x = 0; x < canvas.width(); ++x) num_found += same(canvas.at(x, y), color);
  return num_found;
}

Image plain(int width, int height) { return Canvas(width, height, kGround).take(); }

TEST(ClassColor, FirstFiftyDiffer) {
  std::set<std::tuple<int, int, int>> colors;
  for (int label = 0; label < 50; ++label) {
    const Rgb color = class_color(label);
    EXPECT_TRUE(colors.insert({color.r, color.g, color.b}).second) << label;
  }
  EXPECT_TRUE(same(class_color(-1), class_color(0)));
}

TEST(DrawBoxes, PredictionIsSolidGroundTruthDashed) {
  Image solid = plain(100, 100);
  draw_boxes(solid, std::vector<DrawnBox>{{20, 30, 60, 70, 1, ""}});
  const int num_outline = 40 * 40 - 36 * 36;
  EXPECT_EQ(count(solid, class_color(1)), num_outline);
  EXPECT_EQ(count(solid, kWhite), 0);
  EXPECT_TRUE(same(Canvas(solid).at(20, 30), class_color(1)));
  EXPECT_TRUE(same(Canvas(solid).at(59, 69), class_color(1)));
  EXPECT_TRUE(same(Canvas(solid).at(40, 50), kGround));

  Image dashed = plain(100, 100);
  draw_boxes(dashed, std::vector<DrawnBox>{{20, 30, 60, 70, 1, "", true}});
  EXPECT_GT(count(dashed, kWhite), num_outline / 3);
  EXPECT_GT(count(dashed, class_color(1)), num_outline / 3);
  EXPECT_EQ(count(dashed, kWhite) + count(dashed, class_color(1)), num_outline);
}

TEST(DrawBoxes, TagsStayInThePicture) {
  const Rgb ink = {0, 0, 0};
  Canvas letters(30, 10, kWhite);
  letters.text(0, 0, "cat", ink, 1);
  for (const float at : {-20.f, 0.f, 45.f, 90.f})
    for (const bool ground_truth : {false, true}) {
      Image image = plain(100, 100);
      draw_boxes(image, std::vector<DrawnBox>{{at, at, at + 20, at + 20, 3, "cat", ground_truth}});
      EXPECT_EQ(count(image, ink), count(letters.image(), ink)) << at << ground_truth;
    }
}

TEST(DrawBoxes, HugeAndUndefinedBoxesAreHarmless) {
  constexpr float kHuge = std::numeric_limits<float>::max();
  Image image = plain(50, 40);
  draw_boxes(image, std::vector<DrawnBox>{{-kHuge, -kHuge, kHuge, kHuge, 1, "a"},
                                          {NAN, 0, 10, 10, 2, "b"},
                                          {30, 30, 10, 10, 4, std::string(500, 'x')}});
  EXPECT_EQ(image.width, 50);
  EXPECT_EQ(image.height, 40);
  EXPECT_EQ(count(image, class_color(2)), 0);
}

TEST(OverlayLabels, BlendsClassesAndShowsIgnored) {
  const LabelImage labels{.width = 4, .height = 1, .pixels = {0, 1, 255, 15}};
  OverlayStyle style{.ignore = 255, .opacity = 0.5};
  const Image image = overlay_labels(plain(4, 1), labels, style);
  const Canvas canvas(image);
  EXPECT_TRUE(same(canvas.at(0, 0), kGround)) << "background stays";
  EXPECT_TRUE(same(canvas.at(1, 0), {69, 10, 15})) << "aeroplane: (128, 0, 0)";
  EXPECT_TRUE(same(canvas.at(2, 0), {133, 138, 143})) << "ignored: white";
  EXPECT_TRUE(same(canvas.at(3, 0), {101, 74, 79})) << "person: (192, 128, 128)";
  EXPECT_THROW(overlay_labels(plain(4, 2), labels, style), comm::Error);
  style.opacity = 0;
  EXPECT_EQ(overlay_labels(plain(4, 1), labels, style).rgb, plain(4, 1).rgb);
  style.opacity = 1.5;
  EXPECT_THROW(overlay_labels(plain(4, 1), labels, style), comm::Error);
}

// Cityscapes' road is class 0.
TEST(OverlayLabels, EveryClassIsPaintedWhereNoneIsBackground) {
  const LabelImage labels{.width = 3, .height = 1, .pixels = {0, 18, 255}};
  const Image image = overlay_labels(plain(3, 1), labels, {false, 255, 1});
  const Canvas canvas(image);
  EXPECT_TRUE(same(canvas.at(0, 0), {128, 0, 0}));
  EXPECT_TRUE(same(canvas.at(1, 0), voc_palette()[19]));
  EXPECT_TRUE(same(canvas.at(2, 0), kWhite));
  const auto legend = label_map_legend({"road", "sidewalk"}, false);
  EXPECT_TRUE(same(legend[0].color, {128, 0, 0}));
  EXPECT_TRUE(same(legend[1].color, {0, 128, 0}));
  EXPECT_TRUE(same(label_map_legend({"background", "cat"}, true)[1].color, {128, 0, 0}));
}

TEST(LabelColors, AreDistinctAndEndWithVoid) {
  for (const bool background : {true, false}) {
    const std::vector<Rgb>& colors = label_colors(background);
    ASSERT_EQ(colors.size(), 256u);
    EXPECT_TRUE(same(colors[255], {224, 224, 192}));
    for (std::size_t a = 0; a < 32; ++a)
      for (std::size_t b = 0; b < a; ++b) EXPECT_FALSE(same(colors[a], colors[b])) << a << b;
  }
}

TEST(Denormalise, InvertsTheNormalisation) {
  const std::array<float, 3> mean = {0.485f, 0.456f, 0.406f};
  const std::array<float, 3> std = {0.229f, 0.224f, 0.225f};
  std::vector<float> planar(3 * 256);  // (3, 16, 16)
  for (std::size_t c = 0; c < 3; ++c)
    for (std::size_t i = 0; i < 256; ++i)
      planar[256 * c + i] = (static_cast<float>((i + 50 * c) % 256) / 255 - mean[c]) / std[c];
  const Image image = denormalise(planar, 16, 16, mean, std);
  for (std::size_t i = 0; i < 256; ++i)
    for (std::size_t c = 0; c < 3; ++c) ASSERT_EQ(image.rgb[3 * i + c], (i + 50 * c) % 256);
}

TEST(Denormalise, ClampsAndSurvivesNan) {
  const std::vector<float> planar = {-9, 9, NAN};
  const Image image = denormalise(planar, 1, 1, {0, 0, 0}, {1, 1, 1});
  EXPECT_EQ(image.rgb, (std::vector<std::uint8_t>{0, 255, 0}));
  EXPECT_THROW(denormalise(planar, 2, 1, {0, 0, 0}, {1, 1, 1}), comm::Error);
}

TEST(Enlarged, RepeatsPixels) {
  Canvas canvas(2, 1, kGround);
  canvas.set(1, 0, kWhite);
  const Image image = enlarged(canvas.image(), 3);
  EXPECT_EQ(image.width, 6);
  EXPECT_EQ(image.height, 3);
  EXPECT_EQ(count(image, kWhite), 9);
  EXPECT_TRUE(same(Canvas(image).at(2, 2), kGround));
  EXPECT_TRUE(same(Canvas(image).at(3, 0), kWhite));
}

TEST(Reduced, TakesMeans) {
  Canvas canvas(5, 2, kGround);
  canvas.set(0, 0, kWhite);
  const Image image = reduced(canvas.image(), 2);
  EXPECT_EQ(image.width, 2);
  EXPECT_EQ(image.height, 1);
  EXPECT_EQ(image.rgb[0], (255 + 3 * kGround.r) / 4);
  EXPECT_TRUE(same(Canvas(image).at(1, 0), kGround));
}

TEST(DrawGrid, LargeTilesAreReduced) {
  const std::vector<Tile> tiles = {{plain(1300, 40), "wide"}, {plain(20, 20), "small"}};
  const Image image = draw_grid(tiles, {.columns = 2, .title = "", .legend = {}});
  EXPECT_EQ(count(image, kGround), 433 * 13 + 400);
}

TEST(DrawGrid, HoldsEveryTileWhole) {
  std::vector<Tile> tiles;
  for (const int size : {30, 50, 40, 20, 10})
    tiles.push_back({plain(size, size), "a caption too long for its tile"});
  const Rgb marker = {1, 200, 3};
  const Image image =
      draw_grid(tiles, {.columns = 3, .title = "Title", .legend = {{marker, "one", true}}});
  EXPECT_EQ(count(image, kGround), 900 + 2500 + 1600 + 400 + 100);
  EXPECT_GT(count(image, marker), 10);
  EXPECT_GT(image.width, 3 * 50);
  EXPECT_GT(image.height, 2 * 50);
}

TEST(DrawGrid, LegendWraps) {
  const std::vector<Tile> tiles = {{plain(100, 20), ""}};
  std::vector<LegendEntry> legend;
  for (int i = 0; i < 9; ++i) legend.push_back({class_color(i), "class name"});
  const Image one = draw_grid(tiles, {.columns = 1, .title = "", .legend = {legend[0]}});
  const Image nine = draw_grid(tiles, {.columns = 1, .title = "", .legend = legend});
  EXPECT_EQ(one.width, nine.width);
  EXPECT_GT(nine.height, one.height);
  for (const LegendEntry& entry : legend) EXPECT_GT(count(nine, entry.color), 10);
}

TEST(DrawGrid, EdgeCases) {
  EXPECT_GT(draw_grid({}, {.columns = 4, .title = "Nothing", .legend = {}}).width, 0);
  EXPECT_THROW(draw_grid({}, {.columns = 0, .title = "", .legend = {}}), comm::Error);
}

}  // namespace
}  // namespace trainer
