#include "trainer/optim/ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace trainer {
namespace {

using models::Parameter;

ParameterKind kind_of(const Parameter& parameter) {
  switch (parameter.kind) {
    case models::ParameterKind::kBias:
      return ParameterKind::kBias;
    case models::ParameterKind::kNorm:
      return ParameterKind::kNorm;
    case models::ParameterKind::kScale:
      return ParameterKind::kScale;
    case models::ParameterKind::kWeight:
      return ParameterKind::kWeight;
    default:
      return ParameterKind::kFixed;
  }
}

std::string module_of(const std::string& name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string::npos ? "" : name.substr(0, dot);
}

bool matches(const RuleMatch& match, const Parameter& parameter) {
  if (!match.name.empty() && !glob_match(match.name, parameter.name)) return false;
  if (!match.module.empty() && !glob_match(match.module, module_of(parameter.name))) return false;
  if (!match.kind.empty() &&
      std::find(match.kind.begin(), match.kind.end(), kind_of(parameter)) == match.kind.end()) {
    return false;
  }
  return !match.scale_invariant || *match.scale_invariant == parameter.scale_invariant;
}

std::string describe(const RuleMatch& match) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (!match.name.empty()) add("name " + match.name);
  if (!match.module.empty()) add("module " + match.module);
  for (ParameterKind kind : match.kind) add("kind " + std::string(to_string(kind)));
  if (match.scale_invariant)
    add(*match.scale_invariant ? "scale invariant" : "not scale invariant");
  return text.empty() ? "everything" : text;
}

class LedgerMaker {
 public:
  explicit LedgerMaker(const RegularizationConfig& config)
      : config_(config), used_(config.rules ? config.rules->size() : 0, false) {}

  LedgerEntry entry(const models::ParameterSlot& slot) {
    LedgerEntry entry{slot.parameter};
    const models::ParameterKind kind = slot.parameter.kind;
    if (kind == models::ParameterKind::kStatistic) {
      entry.trained = slot.bucket >= 0;
      entry.group = "statistic";
      entry.reason = "running statistic: averaged, never decayed";
    } else if (slot.bucket < 0) {
      entry.trained = false;
      entry.group = "frozen";
      entry.reason = kind == models::ParameterKind::kFixed ? "fixed" : "frozen stage";
      if (config_.rules) rule_for(slot.parameter);  // a rule may name frozen tensors
    } else if (config_.rules) {
      apply_rule(entry);
    } else {
      apply_exemptions(entry);
    }
    const double factor = config_.convention == Convention::kFull ? 2.0 : 1.0;
    entry.gradient = entry.l2 * factor;
    return entry;
  }

  void require_all_rules_used() const {
    for (std::size_t i = 0; i < used_.size(); ++i) {
      const Rule& rule = (*config_.rules)[i];
      if (!used_[i]) {
        comm::fail(comm::ExitCode::kConfig,
                   "{}: regularization.rules[{}] ({}) matches no parameter; `ridgeline params` "
                   "lists the names",
                   rule.origin.empty() ? "config" : rule.origin, i, describe(rule.match));
      }
    }
  }

 private:
  int rule_for(const Parameter& parameter) {
    int first = -1;
    for (std::size_t i = 0; i < used_.size(); ++i) {
      if (!matches((*config_.rules)[i].match, parameter)) continue;
      used_[i] = true;
      if (first < 0) first = static_cast<int>(i);
    }
    return first;
  }

  void take_defaults(LedgerEntry& entry) const {
    entry.l2 = config_.l2;
    entry.l1 = config_.l1;
    entry.mode = config_.mode;
  }

  void apply_rule(LedgerEntry& entry) {
    take_defaults(entry);
    const int index = rule_for(entry.parameter);
    entry.group = index < 0 ? "decay" : fmt::format("rule {}", index);
    entry.reason = "no rule matches: regularization.l2, l1, mode";
    if (index < 0) return;
    const Rule& rule = (*config_.rules)[index];
    entry.l2 = rule.l2.value_or(entry.l2);
    entry.l1 = rule.l1.value_or(entry.l1);
    entry.lr_scale = rule.lr_scale.value_or(1.0);
    entry.mode = rule.mode.value_or(entry.mode);
    entry.reason = fmt::format("rules[{}]: {}", index, describe(rule.match));
  }

  void apply_exemptions(LedgerEntry& entry) const {
    const ParameterKind kind = kind_of(entry.parameter);
    if (kind == ParameterKind::kWeight) {
      take_defaults(entry);
      entry.group = "decay";
      entry.reason = "weight: regularization.l2, l1, mode";
    } else {
      entry.group = "exempt: " + std::string(to_string(kind));
      entry.reason = "built-in exemption: " + std::string(to_string(kind));
      entry.mode = config_.mode;
    }
  }

  const RegularizationConfig& config_;
  std::vector<bool> used_;
};

}  // namespace

std::vector<LedgerEntry> make_ledger(const models::ParameterLayout& layout,
                                     const RegularizationConfig& regularization) {
  LedgerMaker maker(regularization);
  std::vector<LedgerEntry> ledger;
  for (const models::ParameterSlot& slot : layout.slots) ledger.push_back(maker.entry(slot));
  maker.require_all_rules_used();
  return ledger;
}

bool glob_match(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0, star = std::string_view::npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

double shrink_per_step(const LedgerEntry& entry, const OptimizerConfig& optimizer,
                       const RegularizationConfig& regularization, double lr) {
  if (!entry.trained || entry.gradient == 0) return 0;
  const double rate = lr * entry.lr_scale;
  if (entry.mode == DecayMode::kDecoupled) {
    return regularization.decay_scale == DecayScale::kLr ? rate * entry.gradient
                                                         : entry.lr_scale * entry.gradient;
  }
  if (optimizer.name != OptimizerName::kSgd) return 0;
  return rate * entry.gradient / (1.0 - optimizer.momentum);
}

double half_life_steps(double shrink) {
  return shrink > 0 && shrink < 1 ? std::log(0.5) / std::log1p(-shrink) : 0;
}

}  // namespace trainer
