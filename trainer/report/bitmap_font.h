#pragma once

namespace trainer {

// A fixed-width font of 5 x 9 pixels a glyph: seven rows of capitals, two of descenders.
inline constexpr int kGlyphColumns = 5;
inline constexpr int kGlyphRows = 9;

// Pixel of a printable ASCII character; any other character is a hollow box.
// REQUIRES: 0 <= column < kGlyphColumns, 0 <= row < kGlyphRows.
bool glyph_pixel(char character, int column, int row);

}  // namespace trainer
