#pragma once

#include "models/graph/executable.h"

namespace trainer {

// Fills whatever inputs a training plan declares: noise as image, a few boxes an image, random
// classes. The same for every run. `stream`: of the executable.
void fill_synthetic(models::Executable& executable, comm::StreamView stream, int num_classes);

}  // namespace trainer
