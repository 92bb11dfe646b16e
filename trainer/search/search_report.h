#pragma once

#include <string>
#include <vector>

#include "trainer/search/summary.h"

namespace trainer {

struct SearchResult {
  std::vector<Over> overs;
  std::string metric;  // "classification/accuracy"
  std::string strategy;
  int folds = 1, seeds = 1;
  TrialRows rows;
  Summary summary;

  std::vector<std::string> keys() const;
};

// The candidates, mean +- sd of the metric, difference to the best +- its standard error; "best"
// and "1 SE" mark the choices. Notes below.
std::string result_table(const SearchResult& result);

// result.json; numbers that are undefined are null.
std::string result_json(const SearchResult& result);

// curve.svg: error = 1 - metric, of held-out and training samples over the values of the first
// key (bars: one standard error of the mean), one pair of curves for each combination of the other
// keys' values. Words instead of numbers stand at 1, 2, 3, ...
std::string curve_svg(const SearchResult& result);

}  // namespace trainer
