#include "trainer/search/summary.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <utility>

#include "trainer/search/over.h"

namespace trainer {
namespace {

using Pairs = std::map<std::pair<std::int64_t, int>, double>;  // (seed, fold) -> metric

struct Group {
  int rung = -1;
  std::vector<const TrialRow*> rows;  // of that rung
};

// By the number in the trial's id, "c012-...".
std::vector<Group> group_rows(const TrialRows& rows, const std::vector<Values>& candidates) {
  std::vector<Group> groups(candidates.size());
  for (const auto& [id, row] : rows) {
    const std::size_t c = id.starts_with("c") ? std::strtoul(id.c_str() + 1, nullptr, 10) : 0;
    if (c >= candidates.size() || candidates[c] != row.values) continue;
    if (row.rung > groups[c].rung) groups[c] = {row.rung, {}};
    if (row.rung == groups[c].rung) groups[c].rows.push_back(&row);
  }
  return groups;
}

CandidateSummary summarize_one(int candidate, const Values& values, const Group& group) {
  CandidateSummary summary;
  summary.candidate = candidate;
  summary.values = values;
  summary.rung = std::max(group.rung, 0);
  std::vector<double> metric, train, loss;
  const auto keep = [](std::vector<double>& to, double value) {
    if (std::isfinite(value)) to.push_back(value);
  };
  for (const TrialRow* row : group.rows) {
    if (row->code != 0) {
      if (summary.num_failed++ == 0) summary.reason = row->reason;
      continue;
    }
    keep(metric, row->metric);
    keep(train, row->train_metric);
    keep(loss, row->loss);
  }
  summary.metric = statistics(metric);
  summary.train_metric = statistics(train);
  summary.loss = statistics(loss);
  return summary;
}

Pairs pairs_of(const Group& group) {
  Pairs pairs;
  for (const TrialRow* row : group.rows) {
    if (row->code == 0 && std::isfinite(row->metric)) pairs[{row->seed, row->fold}] = row->metric;
  }
  return pairs;
}

Statistics paired(const Group& group, const Group& best) {
  if (group.rung != best.rung) return statistics({});
  const Pairs ours = pairs_of(group), theirs = pairs_of(best);
  std::vector<double> differences;
  for (const auto& [pair, value] : ours) {
    const auto other = theirs.find(pair);
    if (other != theirs.end()) differences.push_back(value - other->second);
  }
  return statistics(differences);
}

// A larger one is the better: last rung, no failure, mean.
std::pair<std::pair<int, bool>, double> rank_of(const CandidateSummary& candidate) {
  return {{candidate.rung, candidate.num_failed == 0}, candidate.metric.mean};
}

// Numbers of the regularising keys, in order; empty: none of them is a number.
std::vector<double> regularization_of(const CandidateSummary& candidate,
                                      const std::vector<std::string>& keys) {
  std::vector<double> amounts;
  for (std::size_t k = 0; k < keys.size(); ++k) {
    const auto number = as_number(candidate.values[k]);
    if (is_regularizer(keys[k]) && number) amounts.push_back(*number);
  }
  return amounts;
}

int choose_one_error(const Summary& summary, const std::vector<std::string>& keys) {
  const CandidateSummary& best = summary.candidates[static_cast<std::size_t>(summary.best)];
  if (regularization_of(best, keys).empty()) return -1;
  const double error = std::isfinite(best.metric.error) ? best.metric.error : 0;
  int chosen = summary.best;
  for (std::size_t c = 0; c < summary.candidates.size(); ++c) {
    const CandidateSummary& candidate = summary.candidates[c];
    const CandidateSummary& so_far = summary.candidates[static_cast<std::size_t>(chosen)];
    if (rank_of(candidate).first == rank_of(best).first &&
        candidate.metric.mean >= best.metric.mean - error &&
        regularization_of(candidate, keys) > regularization_of(so_far, keys)) {
      chosen = static_cast<int>(c);
    }
  }
  return chosen;
}

}  // namespace

Statistics statistics(std::span<const double> values) {
  Statistics result{values.size(), std::nan(""), std::nan(""), std::nan("")};
  if (values.empty()) return result;
  const auto n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  result.mean = sum / n;
  if (values.size() < 2) return result;
  for (const double value : values) squares += (value - result.mean) * (value - result.mean);
  result.sd = std::sqrt(squares / (n - 1));
  result.error = result.sd / std::sqrt(n);
  return result;
}

Summary summarize(const TrialRows& rows, const std::vector<std::string>& keys,
                  const std::vector<Values>& candidates) {
  const std::vector<Group> groups = group_rows(rows, candidates);
  Summary summary;
  for (std::size_t c = 0; c < candidates.size(); ++c) {
    summary.candidates.push_back(summarize_one(static_cast<int>(c), candidates[c], groups[c]));
    const CandidateSummary& candidate = summary.candidates.back();
    if (candidate.metric.count == 0) continue;
    if (summary.best < 0 ||
        rank_of(candidate) > rank_of(summary.candidates[static_cast<std::size_t>(summary.best)])) {
      summary.best = static_cast<int>(c);
    }
  }
  if (summary.best < 0) return summary;
  for (std::size_t c = 0; c < candidates.size(); ++c) {
    summary.candidates[c].difference =
        paired(groups[c], groups[static_cast<std::size_t>(summary.best)]);
  }
  summary.one_error = choose_one_error(summary, keys);
  return summary;
}

std::vector<int> survivors(const Summary& rung, std::vector<int> candidates) {
  const std::size_t count = num_survivors(candidates.size());
  const auto of = [&](int c) -> const CandidateSummary& {
    return rung.candidates.at(static_cast<std::size_t>(c));
  };
  std::erase_if(candidates, [&](int c) { return of(c).metric.count == 0; });
  std::stable_sort(candidates.begin(), candidates.end(),
                   [&](int a, int b) { return rank_of(of(a)) > rank_of(of(b)); });
  if (candidates.size() > count) candidates.resize(count);
  std::sort(candidates.begin(), candidates.end());
  return candidates;
}

}  // namespace trainer
