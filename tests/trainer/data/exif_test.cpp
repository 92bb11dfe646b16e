#include "trainer/data/exif.h"

#include "tests/trainer/data/image_fixtures.h"

namespace trainer {
namespace {

using fixture::Bytes;
using fixture::make_tiff;

TEST(Exif, BothByteOrders) {
  for (int value = 1; value <= 8; ++value)
    for (const bool little : {true, false}) {
      EXPECT_EQ(parse_orientation(make_tiff(value, little)).value, value);
      EXPECT_FALSE(parse_orientation(make_tiff(value, little)).ignored);
    }
}

TEST(Exif, NonsenseIsIgnoredAndSaid) {
  for (const int value : {0, 9, 1000}) {
    EXPECT_EQ(parse_orientation(make_tiff(value)).value, 1);
    EXPECT_TRUE(parse_orientation(make_tiff(value)).ignored);
  }
  EXPECT_TRUE(parse_orientation(make_tiff(6, true, 4)).ignored);  // LONG instead of SHORT
}

TEST(Exif, DamagedBlocksHaveNoOrientation) {
  const Bytes tiff = make_tiff(6);
  for (std::size_t size = 0; size < 8 + 2 + 12; ++size) {
    const Orientation o = parse_orientation(std::span(tiff).first(size));
    EXPECT_EQ(o.value, 1) << size;
    EXPECT_FALSE(o.ignored);
  }
  for (std::size_t i = 0; i < tiff.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes flipped = tiff;
      flipped[i] ^= static_cast<std::uint8_t>(1 << bit);
      const int value = parse_orientation(flipped).value;
      EXPECT_TRUE(value >= 1 && value <= 8);
    }
  }
  Bytes far = tiff;
  far[4] = far[5] = far[6] = far[7] = 0xFF;  // the directory's offset
  EXPECT_EQ(parse_orientation(far).value, 1);
}

TEST(Exif, OrientationsUndoOneAnother) {
  const std::vector<int> pixels = {1, 2, 3, 4, 5, 6};  // (2, 3)
  for (const int self_inverse : {1, 2, 3, 4, 5, 7}) {
    const bool swap = swaps_axes(self_inverse);
    const auto once = apply_orientation(pixels, 3, 2, 1, self_inverse);
    EXPECT_EQ(apply_orientation(once, swap ? 2 : 3, swap ? 3 : 2, 1, self_inverse), pixels);
  }
  EXPECT_EQ(apply_orientation(pixels, 3, 2, 1, 6), (std::vector<int>{4, 1, 5, 2, 6, 3}));
  EXPECT_EQ(apply_orientation(apply_orientation(pixels, 3, 2, 1, 6), 2, 3, 1, 8), pixels);
}

}  // namespace
}  // namespace trainer
