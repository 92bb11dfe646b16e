#include "models/graph/weight_tiles.h"

#include "comm/device.h"

namespace models {
namespace {

// move(plain, tiles) for every element, one tile of all positions after the other: it fits in L1.
template <class Move>
void for_each(const Shape& shape, std::int64_t tile, const Move& move) {
  REQUIRE(fits_tiles(shape, static_cast<int>(tile)), "{} in tiles of {}", to_string(shape), tile);
  if (tile == 1) {
    for (std::int64_t i = 0; i < shape.count(); ++i) move(i, i);
    return;
  }
  const std::int64_t outputs = shape[0], inputs = shape[1], spatial = shape[2] * shape[3];
  const std::int64_t num_tiles = outputs / tile * (inputs / tile), area = tile * tile;
  for (std::int64_t t = 0; t < num_tiles; ++t) {
    const std::int64_t first_output = t / (inputs / tile) * tile;
    const std::int64_t first_input = t % (inputs / tile) * tile;
    for (std::int64_t e = 0; e < area; ++e) {
      const std::int64_t o = e / tile, i = e % tile;
      const std::int64_t plain = ((first_output + o) * inputs + first_input + i) * spatial;
      const std::int64_t tiled = t * spatial * area + i * tile + o;
      for (std::int64_t s = 0; s < spatial; ++s) move(plain + s, tiled + s * area);
    }
  }
}

}  // namespace

void to_tiles(std::span<const float> plain, const Shape& shape, int tile, std::span<float> tiles) {
  for_each(shape, tile, [&](std::int64_t p, std::int64_t t) {
    tiles[static_cast<std::size_t>(t)] = plain[static_cast<std::size_t>(p)];
  });
}

void from_tiles(std::span<const float> tiles, const Shape& shape, int tile,
                std::span<float> plain) {
  for_each(shape, tile, [&](std::int64_t p, std::int64_t t) {
    plain[static_cast<std::size_t>(p)] = tiles[static_cast<std::size_t>(t)];
  });
}

bool fits_tiles(const Shape& shape, int tile) {
  return tile == 1 || (tile > 1 && shape.rank == 4 && shape[0] % tile == 0 && shape[1] % tile == 0);
}

int native_tile() { return comm::cpu_info().isa.starts_with("avx512") ? 16 : 1; }

}  // namespace models
