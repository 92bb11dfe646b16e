#pragma once

#include <memory>

#include "models/graph/op.h"
#include "models/ops/anchors.h"

namespace models {

// The losses of detection_loss.h where levels lie in rows: with all channels last an anchor's
// logits, or its deltas, are neighbours, and anchors follow each other. Then a thread finds anchor
// and class by arithmetic, takes 16 bytes at once, and one launch serves all levels: for GPUs.

// Whether the levels, the first inputs of a loss, lie so. row: channels of an anchor
bool levels_lie_in_rows(const AnchorGrid& grid, const KernelContext& context, std::int64_t row);

// REQUIRES: levels_lie_in_rows, with rows of `num_classes`.
std::unique_ptr<Kernel> compile_focal_loss_rows(const AnchorGrid& grid, int num_classes,
                                                const KernelContext& context);
// REQUIRES: levels_lie_in_rows, with rows of 4.
std::unique_ptr<Kernel> compile_box_loss_rows(const AnchorGrid& grid, const KernelContext& context);

}  // namespace models
