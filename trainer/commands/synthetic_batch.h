#pragma once

#include "models/graph/executable.h"

namespace trainer {

// Fills whatever inputs a training plan declares: noise as image, a few boxes an image, random
// classes. The same for every run. REQUIRES: the executable is on the CPU.
void fill_synthetic(models::Executable& executable, int num_classes);

}  // namespace trainer
