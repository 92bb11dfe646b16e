#include "trainer/commands/reg_expected.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace trainer {

bool adaptive(OptimizerName name) {
  return name != OptimizerName::kSgd && name != OptimizerName::kLars;
}

double ExpectedUpdate::penalty(const LedgerEntry& entry, double w) const {
  const double half = config_.regularization.convention == Convention::kHalf ? 0.5 : 1.0;
  return factor_ * half * entry.l2 * w * w;
}

double ExpectedUpdate::penalty_gradient(const LedgerEntry& entry, double w) const {
  const double h = 1e-3 * std::max(std::abs(w), 1e-3);
  return (penalty(entry, w + h) - penalty(entry, w - h)) / (2 * h);
}

void ExpectedUpdate::count_norm(const LedgerEntry& entry, std::span<const float> w) {
  if (entry.mode != DecayMode::kLoss) return;
  for (const float x : w) {
    const double g = penalty_gradient(entry, x);
    squared_norm_ += g * g;
  }
}

double ExpectedUpdate::clip() const {
  if (config_.clip.norm <= 0) return 1;
  return std::min(1.0, config_.clip.norm / (std::sqrt(squared_norm_) + 1e-6));
}

// Share of a weight that decoupled decay takes: its gradient times lr, or times the schedule alone.
double ExpectedUpdate::decoupled(const LedgerEntry& entry) const {
  if (entry.mode != DecayMode::kDecoupled) return 0;
  const bool with_lr = config_.regularization.decay_scale == DecayScale::kLr;
  return penalty_gradient(entry, 1.0) * entry.lr_scale * (with_lr ? config_.optimizer.lr : 1.0);
}

// eta |w| / (|g| + c |w|); without a data gradient, g is the penalty's own in mode loss, else 0.
double ExpectedUpdate::trust(const LedgerEntry& entry, std::span<const float> w) const {
  if (entry.parameter.kind != models::ParameterKind::kWeight) return 1;
  double squared = 0;
  for (const float x : w) squared += double{x} * x;
  const double norm = std::sqrt(squared);
  const double c = penalty_gradient(entry, 1.0);
  const double denominator = entry.mode == DecayMode::kLoss      ? c * norm * clip()
                             : entry.mode == DecayMode::kCoupled ? c * norm
                                                                 : 0.0;
  if (norm <= 0 || denominator <= 0) return 1;
  return config_.optimizer.trust * norm / (denominator + config_.optimizer.eps);
}

// With state zero before, Adam's bias corrections cancel its betas: m = d, v = d^2.
ExpectedUpdate::Element ExpectedUpdate::step(double w, double d, double lr, double trust) const {
  const OptimizerConfig& o = config_.optimizer;
  const double size = std::abs(d);
  switch (o.name) {
    case OptimizerName::kSgd:
      return {w - lr * (o.nesterov ? (1 + o.momentum) * d : d), lr};
    case OptimizerName::kLars:
      return {w - lr * trust * d, lr};
    case OptimizerName::kAdam:
    case OptimizerName::kAdamw:
    case OptimizerName::kAdagrad:
      return {w - lr * d / (size + o.eps), lr / (size + o.eps)};
    case OptimizerName::kRmsprop: {
      const double average = std::sqrt(1 - o.alpha) * size + o.eps;
      return {w - lr * d / average, lr / average};
    }
  }
  return {w, lr};
}

std::vector<double> ExpectedUpdate::of(const LedgerEntry& entry, std::span<const float> w) const {
  const double lr = config_.optimizer.lr * entry.lr_scale;
  const double kept = 1 - decoupled(entry);
  const double local = config_.optimizer.name == OptimizerName::kLars ? trust(entry, w) : 1.0;
  const double in_gradient = entry.mode == DecayMode::kLoss      ? clip()
                             : entry.mode == DecayMode::kCoupled ? 1.0
                                                                 : 0.0;
  std::vector<double> after;
  after.reserve(w.size());
  for (const float x : w) {
    const double d = in_gradient * penalty_gradient(entry, x);
    const Element e = step(x * kept, d, lr, local);
    const double shrunk = std::abs(e.value) - e.metric * entry.l1 * factor_;
    after.push_back(entry.l1 > 0 ? std::copysign(std::max(shrunk, 0.0), e.value) : e.value);
  }
  return after;
}

double amplification(const std::vector<LedgerEntry>& ledger, const Config& config) {
  constexpr double kShare = 0.25, kThreshold = 0.005;
  double factor = std::numeric_limits<double>::infinity();
  for (const LedgerEntry& entry : ledger) {
    if (!entry.trained) continue;
    const double lr = config.optimizer.lr * entry.lr_scale;
    const bool by_schedule = entry.mode == DecayMode::kDecoupled &&
                             config.regularization.decay_scale == DecayScale::kScheduleOnly;
    const double share = entry.gradient * (by_schedule ? entry.lr_scale : lr) *
                         (config.optimizer.nesterov ? 1 + config.optimizer.momentum : 1);
    if (share > 0) factor = std::min(factor, kShare / share);
    if (lr * entry.l1 > 0) factor = std::min(factor, kThreshold / (lr * entry.l1));
  }
  return std::isfinite(factor) ? std::max(1.0, factor) : 1.0;
}

}  // namespace trainer
