#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "comm/communicator.h"

namespace comm {

// values[i] = gathered[0][i] op gathered[1][i] op ..., in rank order.  gathered: (ranks, values)
template <typename T>
void reduce_in_order(std::span<const T> gathered, Reduction reduction, std::span<T> values) {
  const std::size_t count = values.size();
  for (std::size_t i = 0; i < gathered.size(); ++i) {
    T& value = values[i % count];
    if (i < count)
      value = gathered[i];
    else if (reduction == Reduction::kSum)
      value += gathered[i];
    else
      value = reduction == Reduction::kMax ? std::max(value, gathered[i])
                                           : std::min(value, gathered[i]);
  }
}

}  // namespace comm
