#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/optim/ledger.h"

namespace trainer {

// One line of `ridgeline params`.
struct ParameterRow {
  LedgerEntry entry;
  std::int64_t elements = 0;
  // Share of the weight that decay removes a step at optimizer.lr; empty where an adaptive rule
  // divides the decay by the gradient's own scale, so that no constant exists.
  std::optional<double> shrink;
  std::optional<double> half_life_steps, half_life_epochs;  // empty: never, or unknown
};

struct GroupTotal {
  std::string group;
  std::int64_t tensors = 0, elements = 0;
};

struct ParamsReport {
  std::string name;  // of the run
  double lr = 0;
  std::vector<ParameterRow> rows;  // in the order of the network
  std::vector<GroupTotal> groups;  // in order of first appearance
  GroupTotal total;
};

// The ledger of a configuration. `steps_per_epoch` empty: half-lives in steps only.
// Errors: kConfig for a rule that matches nothing.
ParamsReport params_report(const Config& config, int num_classes,
                           std::optional<double> steps_per_epoch);

std::string params_text(const ParamsReport& report);
std::string params_json(const ParamsReport& report);

}  // namespace trainer
