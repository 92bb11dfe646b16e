#pragma once

#include <span>
#include <string>
#include <vector>

#include "models/graph/parameter_layout.h"
#include "trainer/config/config.h"

namespace trainer {

// What regularization does to one parameter, and who decided.
struct LedgerEntry {
  models::Parameter parameter;
  bool trained = true;  // false: frozen, fixed; nothing is done to it
  double l2 = 0;        // lambda as configured
  double gradient = 0;  // coefficient c of the decay gradient c w: lambda (half) or 2 lambda (full)
  double l1 = 0;        // proximal soft threshold a unit of learning rate
  double lr_scale = 1;
  DecayMode mode = DecayMode::kCoupled;
  std::string group;   // "decay", "exempt: norm", "rule 2", "statistic", "frozen"
  std::string reason;  // the rule that decided, as people read it
};

// One entry a slot of the layout, in its order. Rules: first match wins; without rules the built-in
// exemptions (bias, norm, scale, fixed) apply. Errors: kConfig for a rule that matches nothing.
std::vector<LedgerEntry> make_ledger(const models::ParameterLayout& layout,
                                     const RegularizationConfig& regularization);

// Shell-style glob: '*' any run of characters, '?' one.
bool glob_match(std::string_view pattern, std::string_view text);

// Share of a weight that decay removes in one step at rest, and the steps until half is gone.
//   coupled SGD: lr s c / (1 - momentum), s = lr_scale; decoupled: lr s c, or s c at the base rate
//   with schedule_only.
// Adaptive rules divide a coupled decay by the gradient's own scale: 0 says "depends".
double shrink_per_step(const LedgerEntry& entry, const OptimizerConfig& optimizer,
                       const RegularizationConfig& regularization, double lr);
double half_life_steps(double shrink);

}  // namespace trainer
