#pragma once

#include <filesystem>

#include "trainer/data/batch.h"
#include "trainer/evaluation.h"

namespace trainer {

// Predictions (solid) against ground truth (dashed) on the first images of a split. Errors: kIo.
void draw_predictions(const Config& config, const Dataset& dataset, const Evaluation& evaluation,
                      const std::filesystem::path& file);

// A training micro-batch as the network sees it: after resize, flip and normalisation.
void draw_batch(const Config& config, const Dataset& dataset, Batch& batch,
                const std::filesystem::path& file);

// The same for the first batches of a configuration, as `ridgeline data --out` shows them.
void draw_data_pictures(const Config& config, const std::filesystem::path& folder);

}  // namespace trainer
