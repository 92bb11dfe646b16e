#include <algorithm>
#include <cstddef>
#include <vector>

#include "comm/error.h"
#include "trainer/report/pictures.h"

namespace trainer {

namespace {

constexpr Rgb kPaper = {255, 255, 255};
constexpr Rgb kInk = {30, 30, 30};
constexpr int kGap = 10;

struct Layout {
  int scale;  // of captions and legend; the title is one step larger
  int cell_width, cell_height;
  int columns, rows;
  int width, top, height;  // of the picture; top of the first row of tiles

  int caption_height() const { return text_height(scale) + 4 * scale; }
};

// Places the legend's entries left to right, wrapped; calls draw(entry, x, y, width) for each and
// returns the height they take.
template <typename Draw>
int flow_legend(const GridStyle& style, const Layout& layout, Draw&& draw) {
  const int swatch = 3 * text_height(layout.scale);
  const int row_height = text_height(layout.scale) + 4 * layout.scale;
  int x = kGap, y = 0;
  for (const LegendEntry& entry : style.legend) {
    const int width = swatch + text_width(entry.text, layout.scale);
    if (x > kGap && x + width > layout.width - kGap) x = kGap, y += row_height;
    draw(entry, x, y, swatch);
    x += width + 2 * kGap;
  }
  return style.legend.empty() ? 0 : y + row_height;
}

Layout lay_out(std::span<const Tile> tiles, const GridStyle& style) {
  constexpr int kPixelsPerScale = 320;
  constexpr int kNarrowest = 240;  // room for a title above few small tiles
  Layout layout{};
  for (const Tile& tile : tiles) {
    layout.cell_width = std::max(layout.cell_width, tile.image.width);
    layout.cell_height = std::max(layout.cell_height, tile.image.height);
  }
  const int num_tiles = static_cast<int>(tiles.size());
  layout.scale = std::clamp(layout.cell_width / kPixelsPerScale, 1, 4);
  layout.columns = std::min(style.columns, std::max(num_tiles, 1));
  layout.rows = (num_tiles + layout.columns - 1) / layout.columns;
  layout.width = std::max(layout.columns * (layout.cell_width + kGap) + kGap, kNarrowest);
  layout.top = kGap;
  if (!style.title.empty()) layout.top += text_height(layout.scale + 1) + kGap;
  layout.top += flow_legend(style, layout, [](auto&&...) {});
  layout.height =
      layout.top + kGap + layout.rows * (layout.cell_height + layout.caption_height() + kGap);
  return layout;
}

void draw_head(Canvas& canvas, const GridStyle& style, const Layout& layout) {
  int top = kGap;
  if (!style.title.empty()) {
    const int scale = layout.scale + 1;
    canvas.text(kGap, top, fit_text(style.title, layout.width - 2 * kGap, scale), kInk, scale);
    top += text_height(scale) + kGap;
  }
  const int line = text_height(layout.scale);
  flow_legend(style, layout, [&](const LegendEntry& entry, int x, int y, int swatch) {
    const PixelRect box = {x, top + y, x + swatch - line / 2, top + y + line};
    canvas.outline(box, {.color = entry.color,
                         .thickness = 2 * layout.scale,
                         .dash = entry.dashed ? 4 * layout.scale : 0});
    canvas.text(x + swatch, top + y + layout.scale, entry.text, kInk, layout.scale);
  });
}

}  // namespace

Image draw_grid(std::span<const Tile> given, const GridStyle& style) {
  REQUIRE(style.columns > 0, "columns {}", style.columns);
  constexpr int kLargest = 640;  // one large picture would space all the others out
  std::vector<Tile> tiles(given.begin(), given.end());
  for (Tile& tile : tiles) {
    const auto [shorter, longer] = std::minmax(tile.image.width, tile.image.height);
    const int factor = std::min((longer + kLargest - 1) / kLargest, shorter);
    if (factor > 1) tile.image = reduced(tile.image, factor);
  }
  const Layout layout = lay_out(tiles, style);
  Canvas canvas(layout.width, layout.height, kPaper);
  draw_head(canvas, style, layout);
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    const int column = static_cast<int>(i) % layout.columns;
    const int row = static_cast<int>(i) / layout.columns;
    const int x = kGap + column * (layout.cell_width + kGap);
    const int y = layout.top + row * (layout.cell_height + layout.caption_height() + kGap);
    canvas.paste(tiles[i].image, x, y);
    canvas.text(x, y + tiles[i].image.height + 3 * layout.scale,
                fit_text(tiles[i].caption, layout.cell_width, layout.scale), kInk, layout.scale);
  }
  return std::move(canvas).take();
}

}  // namespace trainer
