#pragma once

#include "models/graph/executable.h"
#include "trainer/config/config.h"
#include "trainer/data/batch.h"

namespace trainer {

// The fields of a batch that a model reads.
Fields fields_of(ModelName model);

// Copies the fields that a graph declares into its inputs. REQUIRES: equal shapes.
void feed(models::Executable& executable, Batch& batch);

}  // namespace trainer
