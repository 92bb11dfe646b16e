#pragma once

#include "models/graph/op.h"

namespace models {

// Copies a rank-4 value into the other physical order; the only op the engine itself inserts.
std::shared_ptr<const Op> make_reorder();

// dst = src (or dst += src) between any two channel blocks; padding channels of dst become zero.
// REQUIRES: equal logical shapes, fp32.
void reorder(comm::StreamView stream, const Tensor& src, const Tensor& dst, bool accumulate);

}  // namespace models
