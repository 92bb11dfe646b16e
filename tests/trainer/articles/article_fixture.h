#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "comm/communicator_local.h"
#include "trainer/config/load.h"
#include "trainer/optim/sharded_optimizer.h"

// What five introductory articles on L2 do, beside what Ridgeline does: "ours" always is the YAML
// that a user writes, through the parser, the ledger and the optimizer of a run.
namespace trainer::testing {

using Weights = std::map<std::string, float>;  // "...bias" a bias, "...gamma" of a norm

// `text`: the sections optimizer and regularization. Errors: as parse_config.
Config article_config(const std::string& text);

// One rank, one scalar a tensor.
class Ours {
 public:
  Ours(const std::string& text, const Weights& weights);

  // One update with these gradients of the data's loss; absent ones are 0.
  void step(const Weights& gradients = {});
  float at(const std::string& name = "w") const;
  double penalty() const { return penalty_; }  // of the weights after the last step
  const std::vector<LedgerEntry>& ledger() const { return optimizer_.ledger(); }

 private:
  Config config_;
  std::unique_ptr<comm::Communicator> communicator_;
  comm::Stream stream_;
  models::ParameterStorage storage_;
  ShardedOptimizer optimizer_;
  std::int64_t num_steps_ = 0;
  double penalty_ = 0;
};

// w after one update.
float updated(const std::string& text, float w, float gradient = 0);

// Message of the configuration error that `text` stops at; empty when there is none.
std::string config_error(const std::string& text);

// Slope of a penalty that a text states, by central differences.
template <typename Penalty>
double slope(Penalty penalty, double w) {
  constexpr double kStep = 1e-6;
  return (penalty(w + kStep) - penalty(w - kStep)) / (2 * kStep);
}

}  // namespace trainer::testing
