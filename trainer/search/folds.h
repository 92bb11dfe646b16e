#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/data/dataset.h"

namespace trainer {

// Samples of one fold: those trained on and those held out, each ascending.
struct Fold {
  std::vector<std::int64_t> train, held_out;
};

// What must not be torn apart by folds: for each sample the file of its image, or its name where
// there is no file; with `pattern` (a regular expression, ECMAScript) what its first capture, or
// the whole match, finds in the sample's name (a patient, a scene). A sample that the pattern does
// not match is a group of its own. Errors: kUsage for a malformed pattern.
std::vector<std::string> sample_groups(const Dataset& dataset, const std::string& pattern);

// The fold of each sample, 0 .. num_folds - 1: groups in an order drawn by Philox (seed), each
// given whole to the fold with the fewest samples so far (the first of equals). With groups of one
// sample the folds' sizes differ by at most one. A pure function of its arguments.
// Errors: kConfig when there are fewer groups than folds.
std::vector<int> assign_folds(const std::vector<std::string>& groups, int num_folds,
                              std::uint64_t seed);

Fold fold_of(const std::vector<int>& folds, int fold);

}  // namespace trainer
