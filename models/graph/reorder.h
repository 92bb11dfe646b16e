#pragma once

#include "models/graph/op.h"

namespace models {

// Copies a rank-4 value into the other physical order, and the type of the output if that is
// another; the only op the engine itself inserts.
std::shared_ptr<const Op> make_reorder();
std::shared_ptr<const Op> make_cast();  // where only the type is another: the same by its name

// dst = src (or dst += src) between any two channel blocks and types of activations; padding
// channels of dst become zero. REQUIRES: equal logical shapes.
void reorder(comm::StreamView stream, const Tensor& src, const Tensor& dst, bool accumulate);

}  // namespace models
