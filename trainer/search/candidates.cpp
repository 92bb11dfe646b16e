#include "trainer/search/candidates.h"

#include "comm/error.h"
#include "comm/random.h"
#include "trainer/config/suggest.h"
#include "trainer/config/tree.h"

namespace trainer {
namespace {

constexpr std::size_t kMaxCandidates = 10000;
constexpr double kEta = 3;

std::vector<Values> grid(const std::vector<Over>& overs) {
  std::vector<Values> points(1);
  for (const Over& over : overs) {
    if (over.listed.empty() && over.count == 0)
      comm::fail(comm::ExitCode::kUsage,
                 "--over {}: a grid needs the COUNT of values: append :11 or so, or draw with "
                 "--strategy random --trials 20",
                 over.key);
    const std::vector<std::string> values = grid_values(over);
    if (points.size() * values.size() > kMaxCandidates)
      comm::fail(comm::ExitCode::kUsage,
                 "--over: more than {} combinations; use fewer values or --strategy random",
                 kMaxCandidates);
    std::vector<Values> wider;
    for (const Values& point : points) {
      for (const std::string& value : values) {
        wider.push_back(point);
        wider.back().push_back(value);
      }
    }
    points = std::move(wider);
  }
  return points;
}

std::vector<Values> draws(const SearchDefinition& definition) {
  std::vector<Values> points;
  for (int i = 0; i < definition.num_draws; ++i) {
    Values point;
    for (std::size_t axis = 0; axis < definition.overs.size(); ++axis) {
      // Epoch 1: folds use epoch 0 of the same purpose.
      const comm::Random4 random =
          comm::philox(static_cast<std::uint64_t>(definition.first_seed), comm::Purpose::kSearch,
                       static_cast<std::uint64_t>(i), 1, static_cast<std::uint32_t>(axis));
      point.push_back(value_at(definition.overs[axis], comm::uniform(random.v[0])));
    }
    points.push_back(std::move(point));
  }
  return points;
}

}  // namespace

Strategy parse_strategy(const std::string& name) {
  const std::vector<std::string> known = {"grid", "random", "halving"};
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (name == known[i]) return static_cast<Strategy>(i);
  }
  const std::string near = did_you_mean(name, known);
  comm::fail(comm::ExitCode::kUsage, "--strategy {} is not one of grid, random, halving{}",
             quote(name), near.empty() ? "" : "; did you mean " + near + "?");
}

const char* strategy_name(Strategy strategy) {
  constexpr const char* kNames[] = {"grid", "random", "halving"};
  return kNames[static_cast<int>(strategy)];
}

std::vector<Values> candidates(const SearchDefinition& definition) {
  REQUIRE(!definition.overs.empty(), "nothing to search over");
  return definition.num_draws > 0 ? draws(definition) : grid(definition.overs);
}

std::vector<double> rung_shares(Strategy strategy, std::size_t num_candidates) {
  std::vector<double> shares = {1};
  if (strategy != Strategy::kHalving) return shares;
  for (std::size_t n = num_candidates; n >= 3; n /= 3) {
    shares.insert(shares.begin(), shares.front() / kEta);
  }
  return shares;
}

std::size_t num_survivors(std::size_t num_candidates) { return (num_candidates + 2) / 3; }

std::string Trial::run_name() const { return fmt::format("c{:03}-s{}-f{}", candidate, seed, fold); }

std::string Trial::id() const { return fmt::format("{}-r{}", run_name(), rung); }

std::vector<Trial> trials_of(const SearchDefinition& definition, const std::vector<int>& candidates,
                             int rung) {
  std::vector<Trial> trials;
  for (int s = 0; s < definition.seeds; ++s) {
    for (int fold = 0; fold < definition.folds; ++fold) {
      for (const int candidate : candidates) {
        trials.push_back({candidate, definition.first_seed + s, fold, rung});
      }
    }
  }
  return trials;
}

}  // namespace trainer
