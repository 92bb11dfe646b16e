#pragma once

#include <vector>

#include "models/graph/graph.h"

namespace models {

struct ConvTransposeAttributes {
  int stride = 1;
  int padding = 0;  // rows and columns taken from every side of the result
  int groups = 1;
};

// Transposed convolution (deconvolution), the gradient of conv2d with respect to its input:
//   y(n, o, h s + i - p, w s + j - p) += x(n, c, h, w) weight(c, o, i, j), o within c's group
//   x: (N, C, h_x, w_x); weight: (C, O / groups, kh, kw); y: (N, O, (h_x - 1) s - 2 p + kh, ...)
Value conv_transpose2d(Graph& graph, Value x, Value weight,
                       const ConvTransposeAttributes& attributes);

// Transposed convolution of every channel with one fixed k x k kernel and no parameter: bilinear
// interpolation (Long et al. 2015), the outer product of bilinear_kernel(k) with itself.
//   x: (N, C, h_x, w_x); y: (N, C, (h_x - 1) s - 2 p + k, ...); REQUIRES: groups == 1
Value upsample_deconvolution(Graph& graph, Value x, int kernel,
                             const ConvTransposeAttributes& attributes);

// 1 - |i - c| / f for i in [0, k): f = ceil(k / 2), c = f - 1 for odd k and f - 1/2 for even k.
std::vector<float> bilinear_kernel(int kernel);

// The kernel of conv_transpose2d by the engines of a GPU.
std::unique_ptr<Kernel> compile_conv_transpose2d_gpu(const ConvTransposeAttributes& attributes,
                                                     const KernelContext& context);

}  // namespace models
