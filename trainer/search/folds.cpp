#include "trainer/search/folds.h"

#include <algorithm>
#include <map>
#include <regex>

#include "comm/error.h"
#include "comm/random.h"
#include "trainer/config/tree.h"

namespace trainer {
namespace {

struct Group {
  std::uint64_t order;
  std::vector<std::size_t> samples;
};

std::uint64_t drawn_order(std::uint64_t seed, std::uint64_t index) {
  const comm::Random4 random = comm::philox(seed, comm::Purpose::kSearch, index, 0, 0);
  return std::uint64_t{random.v[1]} << 32 | random.v[0];
}

}  // namespace

std::vector<std::string> sample_groups(const Dataset& dataset, const std::string& pattern) {
  std::vector<std::string> groups;
  std::regex expression;
  try {
    expression = std::regex(pattern);
  } catch (const std::regex_error& error) {
    comm::fail(comm::ExitCode::kUsage,
               "--group {}: {}; write a regular expression, such as '^(.*)_'", quote(pattern),
               error.what());
  }
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    const Sample& sample = dataset.sample(i);
    std::smatch match;
    if (pattern.empty()) {
      groups.push_back(sample.file.empty() ? sample.name : sample.file);
    } else if (std::regex_search(sample.name, match, expression)) {
      groups.push_back("=" + match[match.size() > 1 ? 1 : 0].str());
    } else {
      groups.push_back(fmt::format("#{}", i));
    }
  }
  return groups;
}

std::vector<int> assign_folds(const std::vector<std::string>& groups, int num_folds,
                              std::uint64_t seed) {
  REQUIRE(num_folds >= 1, "{} folds", num_folds);
  std::map<std::string, std::vector<std::size_t>> members;
  for (std::size_t i = 0; i < groups.size(); ++i) members[groups[i]].push_back(i);
  if (members.size() < static_cast<std::size_t>(num_folds))
    comm::fail(comm::ExitCode::kConfig,
               "--folds {}: the training set has {} images or groups to divide; use fewer folds",
               num_folds, members.size());
  std::vector<Group> order;
  for (auto& [name, samples] : members) {
    const std::uint64_t drawn = drawn_order(seed, samples.front());
    order.push_back({drawn, std::move(samples)});
  }
  std::sort(order.begin(), order.end(), [](const Group& a, const Group& b) {
    return a.order != b.order ? a.order < b.order : a.samples < b.samples;
  });
  std::vector<int> folds(groups.size());
  std::vector<std::size_t> sizes(static_cast<std::size_t>(num_folds));
  for (const Group& group : order) {
    const auto smallest = std::min_element(sizes.begin(), sizes.end());
    *smallest += group.samples.size();
    for (const std::size_t i : group.samples) folds[i] = static_cast<int>(smallest - sizes.begin());
  }
  return folds;
}

Fold fold_of(const std::vector<int>& folds, int fold) {
  Fold result;
  for (std::size_t i = 0; i < folds.size(); ++i) {
    (folds[i] == fold ? result.held_out : result.train).push_back(static_cast<std::int64_t>(i));
  }
  return result;
}

}  // namespace trainer
