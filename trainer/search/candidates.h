#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/search/over.h"

namespace trainer {

enum class Strategy { kGrid, kRandom, kHalving };

// What is searched; with the configuration it defines every trial.
struct SearchDefinition {
  std::vector<Over> overs;
  int folds = 1;  // 1: validate on the configuration's val split
  int seeds = 1;
  std::int64_t first_seed = 1;  // train.seed of the configuration; seeds count up from it
  Strategy strategy = Strategy::kGrid;
  int num_draws = 0;  // random candidates; 0: the grid
  std::string group;  // pattern of sample_groups
};

// "grid", "random" or "halving". Errors: kUsage with the nearest.
Strategy parse_strategy(const std::string& name);
const char* strategy_name(Strategy strategy);

// A value for each --over.
using Values = std::vector<std::string>;

// Every combination of the grids, the last --over fastest; or num_draws points drawn by Philox
// (first_seed, candidate, axis). Errors: kUsage when a range lacks its COUNT, more than 10,000
// combinations.
std::vector<Values> candidates(const SearchDefinition& definition);

// Shares of the schedule that the rungs of a halving train for, ascending, the last 1: eta 3
// (Jamieson and Talwalkar, 1502.07943), floor(log3(candidates)) + 1 rungs. Other strategies: {1}.
std::vector<double> rung_shares(Strategy strategy, std::size_t num_candidates);

// How many candidates of a rung reach the next: a third, rounded up.
std::size_t num_survivors(std::size_t num_candidates);

// One training run. Invariant: equal for equal definitions, whoever runs it.
struct Trial {
  int candidate = 0;
  std::int64_t seed = 1;
  int fold = 0;
  int rung = 0;

  std::string run_name() const;  // "c003-s1-f0": of its folder, shared by its rungs
  std::string id() const;        // "c003-s1-f0-r0"
};

// Seed by seed and fold by fold, so that an interrupted search has compared all candidates on
// what it has done.
std::vector<Trial> trials_of(const SearchDefinition& definition, const std::vector<int>& candidates,
                             int rung);

}  // namespace trainer
