#include "trainer/data/transform.h"

#include <cmath>

#include "tests/trainer/data/image_fixtures.h"
#include "trainer/data/letterbox.h"

namespace trainer {
namespace {

using comm::ExitCode;
using fixture::expect_error;

TEST(FitGeometry, KeepsTheAspectAtTheTopLeft) {
  const Geometry wide = fit_geometry({640, 480}, {256, 256});
  EXPECT_EQ(wide.content_w, 256);
  EXPECT_EQ(wide.content_h, 192);
  EXPECT_DOUBLE_EQ(wide.scale_x, 0.4);
  EXPECT_EQ(wide.offset_x, 0);
  const Geometry tall = fit_geometry({30, 100}, {256, 200});  // grows
  EXPECT_EQ(tall.content_w, 60);
  EXPECT_EQ(tall.content_h, 200);
  const Geometry thin = fit_geometry({5000, 1}, {64, 64});
  EXPECT_EQ(thin.content_w, 64);
  EXPECT_EQ(thin.content_h, 1);
  const Geometry odd = fit_geometry({333, 500}, {100, 100});
  EXPECT_EQ(odd.content_w, 67);  // 66.6
  EXPECT_EQ(scaled_size(odd), (Size{67, 100}));
}

TEST(CropGeometry, CoversAndChoosesAWindow) {
  const Geometry middle = crop_geometry({640, 480}, {240, 240});
  EXPECT_EQ(scaled_size(middle), (Size{320, 240}));
  EXPECT_EQ(middle.offset_x, -40);
  EXPECT_EQ(middle.offset_y, 0);
  EXPECT_EQ(middle.content_w, 240);
  EXPECT_EQ(crop_geometry({640, 480}, {240, 240}, {.x = 0}).offset_x, 0);
  EXPECT_EQ(crop_geometry({640, 480}, {240, 240}, {.x = 1}).offset_x, -80);
  const Geometry larger = crop_geometry({640, 480}, {240, 240}, {.scale = 2, .x = 1, .y = 1});
  EXPECT_EQ(scaled_size(larger), (Size{640, 480}));
  EXPECT_EQ(larger.offset_x, -400);
  EXPECT_EQ(larger.offset_y, -240);
  const Geometry smaller = crop_geometry({640, 480}, {240, 240}, {.scale = 0.5});
  EXPECT_EQ(smaller.content_w, 160);
  EXPECT_EQ(smaller.content_h, 120);
  EXPECT_EQ(smaller.offset_x, 0);
}

TEST(CropGeometry, EveryWindowIsInside) {
  for (int i = 0; i <= 100; ++i) {
    const Geometry g = crop_geometry({37, 53}, {20, 31}, {1.3, i / 100.0, 1 - i / 100.0});
    const Size scaled = scaled_size(g);
    EXPECT_LE(g.offset_x, 0);
    EXPECT_LE(-g.offset_x + g.content_w, scaled.width);
    EXPECT_LE(-g.offset_y + g.content_h, scaled.height);
    EXPECT_EQ(g.content_w, 20);
    EXPECT_EQ(g.content_h, 31);
  }
}

TEST(SameGeometry, RefusesOtherSizes) {
  const Geometry g = same_geometry({320, 200}, {320, 200});
  EXPECT_EQ(g.scale_x, 1);
  EXPECT_EQ(g.content_h, 200);
  expect_error(
      [] {
        same_geometry({320, 200}, {200, 320});
      },
      ExitCode::kData, {"320 x 200", "200 x 320", "data.resize"});
}

std::vector<Geometry> some_geometries() {
  std::vector<Geometry> all;
  for (const bool flip : {false, true})
    for (const bool vflip : {false, true})
      for (Geometry g : {fit_geometry({640, 427}, {256, 256}), fit_geometry({33, 70}, {300, 200}),
                         crop_geometry({640, 427}, {256, 256}, {1.7, 0.3, 0.8}),
                         crop_geometry({640, 427}, {256, 256}, {0.6, 0.3, 0.8})}) {
        g.flip = flip;
        g.vflip = vflip;
        all.push_back(g);
      }
  return all;
}

TEST(Boxes, KnownPositions) {
  Geometry g = fit_geometry({640, 480}, {256, 256});
  EXPECT_EQ(to_network(g, {0, 0, 640, 480}), (Corners{0, 0, 256, 192}));
  g.flip = true;
  const Corners flipped = to_network(g, {10, 20, 30, 40});
  EXPECT_DOUBLE_EQ(flipped[0], 256 - 12);
  EXPECT_DOUBLE_EQ(flipped[2], 256 - 4);
  EXPECT_DOUBLE_EQ(flipped[1], 8);
  g.vflip = true;
  EXPECT_DOUBLE_EQ(to_network(g, {10, 20, 30, 40})[3], 192 - 8);
}

TEST(Boxes, RoundTripForWhatIsVisible) {
  for (const Geometry& g : some_geometries()) {
    const double step_x = g.original_w / 7.0, step_y = g.original_h / 7.0;
    for (int x = 0; x < 6; ++x) {
      for (int y = 0; y < 6; ++y) {
        const Corners box = {x * step_x, y * step_y, (x + 1) * step_x, (y + 1) * step_y};
        const Corners there = to_network(g, box);
        EXPECT_GE(there[0], 0);
        EXPECT_LE(there[2], g.content_w);
        EXPECT_LE(there[0], there[2]);
        EXPECT_LE(there[1], there[3]);
        const double share = visible_share(g, box);
        const double area = (there[2] - there[0]) * (there[3] - there[1]);
        EXPECT_NEAR(share * step_x * step_y * g.scale_x * g.scale_y, area, 1e-6);
        if (share < 1 - 1e-9) continue;
        const Corners back = to_original(g, there);
        for (int i = 0; i < 4; ++i) EXPECT_NEAR(back[i], box[i], 1e-9);
      }
    }
  }
}

TEST(Boxes, OutsideHasNoArea) {
  const Geometry g = crop_geometry({100, 100}, {20, 20}, {.scale = 4, .x = 0, .y = 0});
  const Corners far = to_network(g, {80, 80, 90, 90});
  EXPECT_EQ((far[2] - far[0]) * (far[3] - far[1]), 0);
  EXPECT_EQ(visible_share(g, {80, 80, 90, 90}), 0);
  EXPECT_NEAR(visible_share(g, {20, 0, 30, 10}), 0.5, 1e-12);
  EXPECT_EQ(visible_share(g, {5, 5, 5, 9}), 0);
  EXPECT_EQ(to_original(fit_geometry({10, 10}, {20, 40}), {-5, 2, 90, 90}),
            (Corners{0, 1, 10, 10}));
}

// A rectangle drawn, then transformed, is where its transformed box says.
TEST(Boxes, AgreeWithATransformedDrawing) {
  for (const Geometry& g : some_geometries()) {
    const int w = g.original_w, h = g.original_h;
    const int x1 = w / 3, x2 = w / 2, y1 = h / 4, y2 = 2 * h / 3;
    Image image{w, h, std::vector<std::uint8_t>(std::size_t{3} * w * h, 0)};
    LabelImage labels{w, h, std::vector<std::uint16_t>(static_cast<std::size_t>(w) * h, 0)};
    for (int y = y1; y < y2; ++y)
      for (int x = x1; x < x2; ++x) {
        labels.pixels[y * w + x] = 7;
        for (int c = 0; c < 3; ++c) image.rgb[3 * (y * w + x) + c] = 255;
      }
    const Size network{300, 260};
    std::vector<std::int32_t> map(300 * 260);
    std::vector<float> pixels(3 * map.size());
    letterbox_labels(labels, g, network, 255, map);
    letterbox(image, g, network, {.normalization = {{0, 0, 0}, {1, 1, 1}}}, pixels);
    const Corners box = to_network(g, {double(x1), double(y1), double(x2), double(y2)});
    for (int y = 0; y < network.height; ++y) {
      for (int x = 0; x < network.width; ++x) {
        const std::size_t at = static_cast<std::size_t>(y) * network.width + x;
        const bool content = x < g.content_w && y < g.content_h;
        ASSERT_EQ(map[at] == 255, !content);
        const double dx = std::min(x + 0.5 - box[0], box[2] - x - 0.5);
        const double dy = std::min(y + 0.5 - box[1], box[3] - y - 0.5);
        const double depth = std::min(dx, dy);  // > 0: the centre lies inside
        const double reach = 1.5 * std::max({1.0, g.scale_x, g.scale_y});
        if (!content || std::abs(depth) < 1e-6) continue;
        ASSERT_EQ(map[at], depth > 0 ? 7 : 0) << x << " " << y << " depth " << depth;
        if (depth > reach) {
          ASSERT_NEAR(pixels[at], 1, 1e-5);
        } else if (depth < -reach) {
          ASSERT_NEAR(pixels[at], 0, 1e-5);
        }
      }
    }
  }
}

TEST(Flips, MirrorPixelsAndUndoThemselves) {
  const Image image{3, 2, {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19}};
  EXPECT_EQ(
      flip_horizontal(image).rgb,
      (std::vector<std::uint8_t>{7, 8, 9, 4, 5, 6, 1, 2, 3, 17, 18, 19, 14, 15, 16, 11, 12, 13}));
  EXPECT_EQ(flip_vertical(image).rgb, (std::vector<std::uint8_t>{11, 12, 13, 14, 15, 16, 17, 18, 19,
                                                                 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(flip_vertical(flip_vertical(image)).rgb, image.rgb);
  const LabelImage labels{2, 2, {1, 2, 3, 400}};
  EXPECT_EQ(flip_horizontal(labels).pixels, (std::vector<std::uint16_t>{2, 1, 400, 3}));
  EXPECT_EQ(flip_vertical(labels).pixels, (std::vector<std::uint16_t>{3, 400, 1, 2}));
}

}  // namespace
}  // namespace trainer
