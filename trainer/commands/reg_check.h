#pragma once

#include <string>
#include <vector>

#include "comm/device.h"
#include "trainer/config/config.h"

namespace trainer {

// One quantity of one group of the ledger: what it says, and what the update did.
struct RegRow {
  std::string group, quantity;
  double expected = 0, measured = 0;
  bool ok = true;
};

struct RegCheckReport {
  std::vector<RegRow> rows;
  std::string rule;      // name of the optimizer
  double amplified = 1;  // factor on every lambda, so that decay stands clear of rounding
  bool ok() const;
};

// Runs one update of the real layout with zero gradients from fresh weights and compares it with
// what the configuration says, computed anew in fp64: the decay gradient by central differences of
// the penalty, then the rule's first step.
// `updated` is what the optimizer is set up with; it differs from `claimed` in tests only.
RegCheckReport reg_check(const Config& claimed, const Config& updated, int num_classes,
                         comm::Device device = {});

std::string reg_check_text(const RegCheckReport& report);

}  // namespace trainer
