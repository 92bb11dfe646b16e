#pragma once

#include <memory>
#include <vector>

#include "models/graph/op.h"

namespace models {

// A sparse matrix whose rows have few consecutive entries: y(i) = sum_t weight(i, t) x(first(i)+t).
struct Band {
  std::vector<std::int32_t> first;     // (rows): column of a row's first entry
  std::vector<std::int32_t> begin{0};  // (rows + 1): its entries in `weight`
  std::vector<float> weight;

  std::int64_t rows() const { return static_cast<std::int64_t>(first.size()); }
  void add_row(std::int64_t column, const std::vector<float>& entries);
  // Rows between two entries of a column become zeros.
  Band transposed(std::int64_t columns) const;
};

// Kernel of a separable linear map of every channel's plane, y = R x C^T, in plain order. Its
// gradient is dx = R^T dy C by the transposed bands: a gather, so no two threads write one element.
//   x: (N, C, h, w); rows: (H x h); columns: (W x w); y: (N, C, H, W)
std::unique_ptr<Kernel> make_resample(const KernelContext& context, const Band& rows,
                                      const Band& columns);

}  // namespace models
