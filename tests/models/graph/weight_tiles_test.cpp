#include "models/graph/weight_tiles.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace models {
namespace {

std::vector<float> counted(const Shape& shape) {
  std::vector<float> v(static_cast<std::size_t>(shape.count()));
  std::iota(v.begin(), v.end(), 0.0f);
  return v;
}

// By the formula of the header.
TEST(WeightTiles, LieAsTheirFormulaSays) {
  const Shape s = {6, 4, 3, 2};
  const std::vector<float> plain = counted(s);
  std::vector<float> tiles(plain.size(), -1.0f), back(plain.size());
  to_tiles(plain, s, 2, tiles);
  std::size_t e = 0;
  for (int o = 0; o < 6; ++o)
    for (int i = 0; i < 4; ++i)
      for (int r = 0; r < 3; ++r)
        for (int k = 0; k < 2; ++k, ++e) {
          const int at = ((((o / 2 * 2 + i / 2) * 3 + r) * 2 + k) * 2 + i % 2) * 2 + o % 2;
          EXPECT_EQ(tiles[static_cast<std::size_t>(at)], plain[e]);
        }
  from_tiles(tiles, s, 2, back);
  EXPECT_EQ(back, plain);
}

TEST(WeightTiles, OfOneAreAnyShapesPlainOrder) {
  const Shape s = {5, 3};
  std::vector<float> tiles(15);
  to_tiles(counted(s), s, 1, tiles);
  EXPECT_EQ(tiles, counted(s));
  EXPECT_THROW(to_tiles(counted(s), s, 2, tiles), comm::Error);
}

}  // namespace
}  // namespace models
