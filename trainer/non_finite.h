#pragma once

#include <cstdint>
#include <string>

#include "models/graph/executable.h"

namespace trainer {

// Repeats the forward pass of a training plan with what lies in its inputs. The first op whose
// result is not finite, as "scope (op)"; "the loss" where all are finite.
std::string first_non_finite_op(models::Executable& executable, std::int64_t parameter_version);

}  // namespace trainer
