#pragma once

#include <filesystem>

namespace trainer {

// Draws metrics.jsonl into `folder`: loss.svg (loss and parts, raw and smoothed), lr.svg,
// penalty.svg, weight_norm.svg, update_ratio.svg and sparsity.svg (a curve for each group of
// parameters), and metrics.svg (each evaluation metric over the step) where there are evaluations.
// Errors: kIo. A missing or empty file draws nothing.
void draw_run_curves(const std::filesystem::path& metrics_file,
                     const std::filesystem::path& folder);

}  // namespace trainer
