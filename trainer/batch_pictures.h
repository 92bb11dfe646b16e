#pragma once

#include <filesystem>

#include "trainer/config/config.h"
#include "trainer/data/dataset.h"

namespace trainer {

// The first training micro-batches as the network sees them (resized, flipped, normalised), each a
// picture train_batch_I.png in `folder`. Errors: kIo, and what reading an image throws.
void draw_batches(const Config& config, const Dataset& dataset, int count,
                  const std::filesystem::path& folder);

}  // namespace trainer
