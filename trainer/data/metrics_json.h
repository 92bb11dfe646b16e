#pragma once

#include <string>

#include "trainer/eval/metrics.h"

namespace trainer {

// The text of metrics.json: one object a group, values in order, "per_class" last (and only where
// there are classes), undefined values null, doubles with digits that read back the same.
std::string metrics_json(const Metrics& metrics);

}  // namespace trainer
