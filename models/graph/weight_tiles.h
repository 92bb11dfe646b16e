#pragma once

#include <span>

#include "models/graph/value.h"

namespace models {

// Weights (O, I, R, S) of a convolution in tiles of B x B channels, as the CPU's convolutions read
// and write them (oneDNN's OIhw16i16o). Element (o, i, r, s) lies at
//   ((((o/B * I/B + i/B) * R + r) * S + s) * B + i % B) * B + o % B.
// B = 1 is plain order, of any shape. REQUIRES: fits_tiles; both spans hold the whole tensor.
void to_tiles(std::span<const float> plain, const Shape& shape, int tile, std::span<float> tiles);
void from_tiles(std::span<const float> tiles, const Shape& shape, int tile, std::span<float> plain);

bool fits_tiles(const Shape& shape, int tile);

// Side of the tiles that convolutions of this machine's CPU want; 1: none.
int native_tile();

}  // namespace models
