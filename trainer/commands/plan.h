#pragma once

#include <cstdint>
#include <string>

#include "comm/device.h"
#include "models/graph/parameter_layout.h"
#include "trainer/config/config.h"

namespace trainer {

struct PlanArguments {
  comm::DeviceKind device = comm::DeviceKind::kCpu;
  int ranks = 1;
};

// `ridgeline plan`: how the batch and the optimizer are divided, then the training step of each
// data.size as text. A pure function of its arguments: opens no data, touches no device.
// Errors: kConfig naming the key without which the number of classes is not known, and for more
// ranks than micro-batches.
std::string plan_text(const Config& config, const PlanArguments& arguments);

// Bytes of optimizer state (momentum and the like, EMA) of the rank that holds most.
std::int64_t optimizer_bytes_per_rank(const Config& config, const models::ParameterLayout& layout);

}  // namespace trainer
