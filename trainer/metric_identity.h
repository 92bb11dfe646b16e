#pragma once

#include <cstdint>
#include <string>

#include "trainer/config/load.h"

namespace trainer {

// What two values of checkpoint.best must have in common to be compared, a line each: the metric,
// the data of the val split and eval.*, but for how often.
std::string metric_identity(const Config& config, std::uint64_t val_fingerprint);

}  // namespace trainer
