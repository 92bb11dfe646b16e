#pragma once

#include <filesystem>

#include "trainer/data/batch.h"
#include "trainer/evaluation.h"

namespace trainer {

// Predictions (solid) against ground truth (dashed) on the first images of a split. Errors: kIo.
void draw_predictions(const Config& config, const Dataset& dataset, const Evaluation& evaluation,
                      const std::filesystem::path& file);

// The first training micro-batches as the network sees them (resized, flipped, normalised), each a
// picture train_batch_I.png in `folder`. Errors: kIo, and what reading an image throws.
void draw_batches(const Config& config, const Dataset& dataset, int count,
                  const std::filesystem::path& folder);

}  // namespace trainer
