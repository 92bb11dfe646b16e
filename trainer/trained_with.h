#pragma once

#include <string>
#include <vector>

#include "trainer/checkpoint/snapshot.h"
#include "trainer/config/config.h"
#include "trainer/data/dataset.h"

// What the weights of a checkpoint learned to see and to say, and whether that is what they are
// used for.
namespace trainer {

using ClassNames = std::vector<std::string>;  // by label; empty where nothing names it

ClassNames class_names_by_label(const Dataset& dataset, int num_classes);

// For CheckpointMeta::notes, and back; empty where the checkpoint does not say.
void note_classes(CheckpointMeta& meta, const ClassNames& names);
ClassNames noted_classes(const CheckpointMeta& meta);

// Compares a checkpoint with the classes and the configuration it is evaluated under. Names that
// differ, and keys that change what an answer means (anchors, normalisation of the input, sizes),
// go to `notify`, a line each. Errors: kCheckpointRefused where a class has another label than in
// training, since every metric would be wrong and none would look so.
void require_same_labels(const CheckpointMeta& meta, const Config& config, const ClassNames& names,
                         const Notify& notify);

}  // namespace trainer
