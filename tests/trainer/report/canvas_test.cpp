#include "trainer/report/canvas.h"

#include <gtest/gtest.h>

#include <set>

#include "comm/error.h"
#include "trainer/report/bitmap_font.h"

namespace trainer {
namespace {

constexpr Rgb kWhite = {255, 255, 255};
constexpr Rgb kRed = {200, 0, 0};

bool same(Rgb a, Rgb b) { return a.r == b.r && a.g == b.g && a.b == b.b; }

// The picture as text: '#' where it is red.
std::string art(const Canvas& canvas) {
  std::string text;
  for (int y = 0; y < canvas.height(); ++y, text += '\n')
    for (int x = 0; x < canvas.width(); ++x) text += same(canvas.at(x, y), kRed) ? '#' : '.';
  return text;
}

TEST(Canvas, FillsAndClips) {
  Canvas canvas(4, 3, kWhite);
  canvas.fill({2, 1, 100, 100}, kRed);
  canvas.fill({-5, -5, 1, 1}, kRed);
  canvas.set(-1, 0, kRed);
  canvas.set(4, 2, kRed);
  EXPECT_EQ(art(canvas),
            "#...\n"
            "..##\n"
            "..##\n");
}

TEST(Canvas, OutlineLiesInside) {
  Canvas canvas(6, 5, kWhite);
  canvas.outline({0, 0, 6, 5}, {.color = kRed});
  EXPECT_EQ(art(canvas),
            "######\n"
            "#....#\n"
            "#....#\n"
            "#....#\n"
            "######\n");
  Canvas thick(6, 5, kWhite);
  thick.outline({0, 0, 6, 5}, {.color = kRed, .thickness = 2});
  EXPECT_EQ(art(thick),
            "######\n"
            "######\n"
            "##..##\n"
            "######\n"
            "######\n");
}

TEST(Canvas, OutlineDashes) {
  Canvas canvas(8, 4, kWhite);
  canvas.outline({0, 0, 8, 4}, {.color = kRed, .thickness = 1, .dash = 2});
  EXPECT_EQ(art(canvas),
            "##..##.#\n"
            "#......#\n"
            "........\n"
            "##..##..\n");
}

TEST(Canvas, OutlineOfAnythingIsSafe) {
  Canvas canvas(4, 4, kWhite);
  canvas.outline({3, 3, 3, 3}, {.color = kRed, .thickness = 9});
  canvas.outline({3, 3, 1, 1}, {.color = kRed, .thickness = 2});
  EXPECT_EQ(art(canvas), "....\n....\n....\n....\n");
  canvas.outline({-1000000, -1000000, 1000000, 1000000}, {.color = kRed, .thickness = 3});
  EXPECT_EQ(art(canvas), "....\n....\n....\n....\n");
}

TEST(Canvas, PasteClipsOnAllSides) {
  const Canvas stamp(3, 3, kRed);
  for (const int at : {-2, 0, 2}) {
    Canvas canvas(4, 4, kWhite);
    canvas.paste(stamp.image(), at, at);
    const std::string text = art(canvas);
    EXPECT_EQ(std::count(text.begin(), text.end(), '#'), at == -2 ? 1 : at == 0 ? 9 : 4);
  }
  Canvas canvas(4, 4, kWhite);
  canvas.paste(stamp.image(), 9, 0);
  canvas.paste(stamp.image(), -9, 0);
  EXPECT_EQ(art(canvas), "....\n....\n....\n....\n");
}

TEST(Canvas, TextIsReadable) {
  Canvas canvas(12, 9, kWhite);
  canvas.text(0, 0, "Lp", kRed, 1);
  EXPECT_EQ(art(canvas),
            "#...........\n"
            "#...........\n"
            "#.....####..\n"
            "#.....#...#.\n"
            "#.....#...#.\n"
            "#.....#...#.\n"
            "#####.####..\n"
            "......#.....\n"
            "......#.....\n");
  Canvas large(10, 18, kWhite);
  large.text(0, 0, "-", kRed, 2);
  const std::string text = art(large);
  EXPECT_EQ(std::count(text.begin(), text.end(), '#'), 5 * 4);
}

TEST(Canvas, ContractsAreChecked) {
  EXPECT_THROW(Canvas(0, 3, kWhite), comm::Error);
  EXPECT_THROW(Canvas(3, 3, kWhite).at(3, 0), comm::Error);
  EXPECT_THROW(Canvas(3, 3, kWhite).text(0, 0, "a", kRed, 0), comm::Error);
}

TEST(BitmapFont, EveryCharacterLooksDifferent) {
  std::set<std::string> shapes;
  const auto shape = [](char c) {
    std::string bits;
    for (int row = 0; row < kGlyphRows; ++row)
      for (int column = 0; column < kGlyphColumns; ++column)
        bits += glyph_pixel(c, column, row) ? '#' : '.';
    return bits;
  };
  for (char c = ' '; c <= '~'; ++c) EXPECT_TRUE(shapes.insert(shape(c)).second) << c;
  EXPECT_TRUE(shapes.insert(shape('\x01')).second);
  EXPECT_EQ(shape('\x01'), shape('\xe9'));
}

TEST(FitText, CutsAtCodePoints) {
  EXPECT_EQ(text_width("\u03bbb", 2), 24);
  EXPECT_EQ(fit_text("abcdef", 36, 1), "abcdef");
  EXPECT_EQ(fit_text("abcdef", 35, 1), "abc..");
  EXPECT_EQ(fit_text("\u03bb\u03bb\u03bb\u03bb", 18, 1), "\u03bb..");
  EXPECT_EQ(fit_text("abc", 12, 1), "..");
  EXPECT_EQ(fit_text("abc", 5, 1), "");
}

}  // namespace
}  // namespace trainer
