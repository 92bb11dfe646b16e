#pragma once

#include <span>
#include <vector>

#include "trainer/optim/ledger.h"

namespace trainer {

// The first update of a run with zero data gradients, computed anew in fp64 from what the ledger
// claims: the decay gradient by central differences of the penalty, then the rule's formula (as in
// torch.optim; LARS as You et al. 1708.03888). Shares nothing with trainer/optim/update.cpp.
class ExpectedUpdate {
 public:
  // `lambda_factor` multiplies every lambda.
  ExpectedUpdate(const Config& config, double lambda_factor)
      : config_(config), factor_(lambda_factor) {}

  // A tensor takes part in the norm that clipping looks at. Call for all before `of`.
  void count_norm(const LedgerEntry& entry, std::span<const float> w);
  // The tensor after the update.
  std::vector<double> of(const LedgerEntry& entry, std::span<const float> w) const;

  // dP/dw by central differences, P = l2/2 w^2 (half) or l2 w^2 (full), times the factor.
  double penalty_gradient(const LedgerEntry& entry, double w) const;

 private:
  struct Element {
    double value;   // before L1
    double metric;  // the step that L1's threshold is multiplied with
  };
  double penalty(const LedgerEntry& entry, double w) const;
  double clip() const;
  double decoupled(const LedgerEntry& entry) const;
  double trust(const LedgerEntry& entry, std::span<const float> w) const;
  Element step(double w, double d, double lr, double trust) const;

  const Config& config_;
  double factor_;
  double squared_norm_ = 0;
};

// Factor on every lambda with which the update's decay stands clear of fp32 rounding: the strongest
// removes a quarter of its weights, or moves them by 0.005 (L1).
double amplification(const std::vector<LedgerEntry>& ledger, const Config& config);

// What is divided by the gradient's own size, so that the weights alone don't show lambda.
bool adaptive(OptimizerName name);

}  // namespace trainer
