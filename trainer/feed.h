#pragma once

#include "models/graph/executable.h"
#include "trainer/data/batch.h"

namespace trainer {

// Copies the fields that a graph declares into its inputs. REQUIRES: equal shapes.
void feed(models::Executable& executable, Batch& batch);

}  // namespace trainer
