#pragma once

#include <memory>

#include "models/ops/conv2d.h"

namespace models {

// True where Winograd F(4x4, 3x3) (Lavin and Gray 2016) is faster than a direct convolution on a
// CPU. A rule by shape, never a timing, because the choice decides bits.
bool winograd_pays(const ConvAttributes& conv, const Shape& weight, const Shape& y);

// Convolution on the CPU by oneDNN.
std::unique_ptr<Kernel> compile_conv2d_onednn(const Conv2dOp& op, const KernelContext& context);

// The same where dilation d keeps Winograd away and it pays on every d-th row and column; else
// null.
std::unique_ptr<Kernel> compile_conv2d_space_to_batch(const Conv2dOp& op,
                                                      const KernelContext& context);

}  // namespace models
