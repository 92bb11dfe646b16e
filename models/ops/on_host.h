#pragma once

#include <functional>

#include "models/graph/op.h"

namespace models {

// A kernel without a body for GPUs: `compile` makes it for the host, every call of forward copies
// its inputs there and its outputs back, and waits. For ops at the end of an inference plan; inside
// a training step nothing may wait. REQUIRES: what it makes keeps nothing from call to call.
std::unique_ptr<Kernel> run_on_host(
    const KernelContext& context,
    const std::function<std::unique_ptr<Kernel>(const KernelContext&)>& compile);

}  // namespace models
