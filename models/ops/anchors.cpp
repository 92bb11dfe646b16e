#include "models/ops/anchors.h"

#include <cmath>

namespace models {

std::shared_ptr<const AnchorGrid> make_anchors(std::int64_t image_height, std::int64_t image_width,
                                               std::span<const Shape> maps,
                                               std::span<const int> sizes,
                                               std::span<const double> ratios) {
  REQUIRE(maps.size() == sizes.size(), "{} anchor sizes for {} levels", sizes.size(), maps.size());
  auto grid = std::make_shared<AnchorGrid>();
  grid->per_cell = static_cast<int>(ratios.size()) * 3;
  for (std::size_t l = 0; l < maps.size(); ++l) {
    const std::int64_t height = maps[l][2], width = maps[l][3];
    grid->levels.push_back({height, width, grid->total()});
    const float scales[] = {static_cast<float>(sizes[l]),
                            static_cast<float>(static_cast<int>(sizes[l] * std::exp2(1.0 / 3))),
                            static_cast<float>(static_cast<int>(sizes[l] * std::exp2(2.0 / 3)))};
    std::vector<Box> cells;  // around the origin, rounded half to even as torch.round
    for (double ratio : ratios) {
      const float h_ratio = std::sqrt(static_cast<float>(ratio)), w_ratio = 1.0f / h_ratio;
      for (float scale : scales) {
        const float w = std::nearbyint(w_ratio * scale / 2),
                    h = std::nearbyint(h_ratio * scale / 2);
        cells.push_back({-w, -h, w, h});
      }
    }
    const std::int64_t stride_y = image_height / height, stride_x = image_width / width;
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x) {
        const auto sx = static_cast<float>(x * stride_x), sy = static_cast<float>(y * stride_y);
        for (const Box& cell : cells) {
          for (float v : {cell.x1 + sx, cell.y1 + sy, cell.x2 + sx, cell.y2 + sy}) {
            grid->boxes.push_back(v);
          }
        }
      }
    }
  }
  return grid;
}

}  // namespace models
