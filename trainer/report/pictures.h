#pragma once

#include <array>
#include <span>
#include <string>
#include <vector>

#include "trainer/data/dataset.h"
#include "trainer/data/image.h"
#include "trainer/report/canvas.h"

namespace trainer {

// Colour of a class in pictures: Okabe-Ito's for the first, then hues a golden angle apart.
Rgb class_color(int label);

struct DrawnBox {
  float x0, y0, x1, y1;       // pixels
  int label;                  // chooses the colour
  std::string text;           // "cat 0.93"; empty: no tag
  bool ground_truth = false;  // dashed, tag below the box; else solid, tag above
};

// Later boxes lie on top; ground truth on top of predictions.
void draw_boxes(Image& image, std::span<const DrawnBox> boxes);

// Colours of class indices in label maps: VOC's, whose first is the black of the background; with
// no background each class has that of the next.
const std::vector<Rgb>& label_colors(bool has_background);

struct OverlayStyle {
  bool has_background = true;  // class 0 stays clear
  int ignore = -1;             // this label is white; -1: none
  double opacity = 0.55;
};

// Class indices blended over the image. REQUIRES: equal sizes, 0 <= opacity <= 1.
Image overlay_labels(const Image& image, const LabelImage& labels, const OverlayStyle& style);

// Planar (3, H, W) network input back to a picture: round(255 * clamp(x * std + mean)).
Image denormalise(std::span<const float> planar, int width, int height,
                  const std::array<float, 3>& mean, const std::array<float, 3>& std);

// Nearest-neighbour enlargement by a whole factor, for small pictures.
Image enlarged(const Image& image, int factor);
// The mean of factor x factor pixels each; what is left over on the right and below is cut off.
// REQUIRES: both sides at least `factor`.
Image reduced(const Image& image, int factor);

struct Tile {
  Image image;
  std::string caption;  // cut to the width of the tile
};

struct LegendEntry {
  Rgb color;
  std::string text;
  bool dashed = false;
};

// The first dozen classes in the colours of draw_boxes, or of overlay_labels.
std::vector<LegendEntry> class_legend(const Dataset& dataset);
std::vector<LegendEntry> label_map_legend(const std::vector<std::string>& class_names,
                                          bool has_background);

struct GridStyle {
  int columns = 4;
  std::string title;
  std::vector<LegendEntry> legend;  // wrapped below the title
};

// Tiles in rows on a white ground, captions below them, cells as large as the largest tile. A tile
// of more than 640 pixels a side is reduced by a whole factor.
Image draw_grid(std::span<const Tile> tiles, const GridStyle& style);

}  // namespace trainer
