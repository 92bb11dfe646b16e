#include "trainer/tasks/label_maps.h"

#include <gmock/gmock.h>

#include "comm/error.h"
#include "tests/trainer/report/scratch_folder.h"
#include "trainer/report/pictures.h"

namespace trainer {
namespace {

using testing::ElementsAre;

TEST(UniqueStems, AreNumberedWhereStemsRepeat) {
  EXPECT_THAT(unique_stems({"x/cat.jpg", "y/cat.png", "cat-2.jpg", "z/cat.jpg", "a.b/dog.e.jpg"}),
              ElementsAre("cat", "cat-3", "cat-2", "cat-4", "dog.e"));
  EXPECT_THAT(unique_stems(std::vector<std::string>{}), ElementsAre());
}

TEST(WriteLabelMap, IsAPaletteInTheColoursOfOverlays) {
  const ScratchFolder folder;
  const LabelImage labels{3, 1, {0, 18, 255}};
  for (const bool background : {true, false}) {
    const auto file = folder.path() / "labels.png";
    write_label_map(file, labels, {256, background});
    EXPECT_EQ(probe_image(file).encoding, "PNG palette 8 bit");
    EXPECT_EQ(read_label_image(file).pixels, labels.pixels);
    const Image shown = read_image(file);
    for (std::size_t i = 0; i < 3; ++i) {
      const Rgb color = label_colors(background)[labels.pixels[i]];
      EXPECT_THAT((std::vector<int>(shown.rgb.begin() + 3 * static_cast<std::ptrdiff_t>(i),
                                    shown.rgb.begin() + 3 * static_cast<std::ptrdiff_t>(i) + 3)),
                  ElementsAre(color.r, color.g, color.b));
    }
  }
}

TEST(WriteLabelMap, MoreClassesThanAPaletteHoldsAre16Bit) {
  const ScratchFolder folder;
  const LabelImage labels{2, 1, {0, 256}};
  write_label_map(folder.path() / "labels.png", labels, {257, true});
  EXPECT_EQ(read_label_image(folder.path() / "labels.png").pixels, labels.pixels);
  EXPECT_THROW(write_label_map(folder.path() / "none" / "labels.png", labels, {257, true}),
               comm::Error);
}

}  // namespace
}  // namespace trainer
