#pragma once

#include <span>
#include <string>
#include <vector>

#include "trainer/search/trial_table.h"

namespace trainer {

// Of n values: mean, standard deviation (n - 1 in the denominator) and standard error of the mean,
// sd / sqrt(n). NaN where n is too small.
struct Statistics {
  std::size_t count = 0;
  double mean, sd, error;
};
Statistics statistics(std::span<const double> values);

// A candidate over its seeds and folds.
struct CandidateSummary {
  int candidate = 0;
  Values values;
  int rung = 0;  // the last one it reached; the figures are of that rung
  Statistics metric, train_metric, loss;
  std::size_t num_failed = 0;
  std::string reason;  // of the first failure
  // Its metric less the best candidate's, over the (seed, fold) pairs that both have at one rung.
  // What folds and seeds have in common cancels, so this separates candidates that their own
  // errors do not.
  Statistics difference;
};

struct Summary {
  std::vector<CandidateSummary> candidates;  // by number
  // Index of the highest mean among those that reached the last rung, those with a failed trial
  // only when there is no other; -1: nothing finished.
  int best = -1;
  // The most regularised candidate whose mean is at least the best's less one standard error of
  // the best's mean (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 7.10),
  // comparing the regularising keys in order; -1: no key regularises.
  int one_error = -1;
};

// REQUIRES: rows of one search; `candidates` numbers them.
Summary summarize(const TrialRows& rows, const std::vector<std::string>& keys,
                  const std::vector<Values>& candidates);

// The num_survivors of `candidates` with the highest means in a summary of one rung, ascending;
// those with a failed trial come last, those without any result never survive.
std::vector<int> survivors(const Summary& rung, std::vector<int> candidates);

}  // namespace trainer
