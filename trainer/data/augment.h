#pragma once

#include <cstdint>
#include <optional>

#include "trainer/data/dataset.h"
#include "trainer/data/photometric.h"
#include "trainer/data/sampler.h"
#include "trainer/data/transform.h"

namespace trainer {

// What is drawn at random for one image, before its size is known. A pure function of (seed, epoch,
// sample): every draw is Philox keyed by its own Purpose, so one option never moves another's.
struct Augmentation {
  bool flip = false, vflip = false;
  double scale = 1;                   // factor on top of data.resize
  double crop_x = 0.5, crop_y = 0.5;  // place of the window, where the image is larger
  double shift_x = 0, shift_y = 0;    // share of the content moved out: < 0 at the left or top
  std::optional<Jitter> jitter;
};

Augmentation draw_augmentation(const DataConfig& config, std::uint64_t seed, const Draw& draw);

// Where the image lies in the network's input.
//   fit    fitted, times scale; what then exceeds the input is cropped at crop_x, crop_y
//   crop   the short side becomes short_side (0: its own) times scale; a window is cropped
//   none   as it is. Errors: 65 if the sizes differ
Geometry augmented_geometry(const DataConfig& config, const Augmentation& augmentation,
                            Size original, Size network);

// Without augmentation, for an input of eval.size. crop: classifiers see the centre; what predicts
// places (boxes, label maps) must see the whole image, so it is fitted.
Geometry evaluation_geometry(const DataConfig& config, bool classifier, Size original,
                             Size network);

// A box of which a crop leaves less than this share is not trained on.
inline constexpr double kMinVisibleShare = 0.25;

}  // namespace trainer
