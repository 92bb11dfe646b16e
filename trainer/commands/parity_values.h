#pragma once

#include <vector>

#include "comm/stream.h"
#include "models/graph/value.h"

namespace trainer {

// A tensor on the host as the other device's can be compared with: float whatever the type (whole
// numbers too), in plain order. Waits for the stream.
std::vector<float> read_values(comm::StreamView stream, const models::Tensor& tensor);

// The reverse, rounded where the tensor is bf16. Waits.
void write_values(comm::StreamView stream, const models::Tensor& tensor,
                  const std::vector<float>& values);

// |a - b| / |b|; 0 where both are 0. What is not a number makes it so.
double relative_distance(const std::vector<float>& a, const std::vector<float>& b);

// The share of elements that are not equal.
double share_of_others(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace trainer
