#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator_local.h"
#include "trainer/optim/sharded_optimizer.h"

namespace trainer::testing {

using Tensors = std::map<std::string, std::vector<float>>;

models::Parameter parameter(const std::string& name, std::int64_t size,
                            models::ParameterKind kind = models::ParameterKind::kWeight);

// Everything that a run can be continued from, whole, and its last report.
struct Snapshot {
  Tensors parameters;  // trained, statistics and frozen, by name
  Tensors states;      // "STATE/TENSOR"
  Tensors averaged;    // of gather_ema, by name; empty without EMA
  OptimizerReport report;
};

// Tensors of awkward sizes in four buckets, a running mean, frozen and fixed tensors. Shards are
// cut inside the tensor of 300000 elements; with 8 ranks most have no share of the small buckets.
std::vector<models::Parameter> awkward_parameters();
std::vector<models::Parameter> untrained_parameters();

struct Steps {
  std::int64_t begin = 0, end = 6;
};

// Updates [begin, end) with random gradients that depend on the step and the micro-batch alone, on
// `num_ranks` threads, which share the device. `from`: where to continue; null: fresh. Fails the
// test where padding or a frozen tensor changed, ranks hold different parameters or states do not
// cover the tensors once.
Snapshot train(const OptimizerSetup& setup, int num_ranks, Steps steps = {},
               const Snapshot* from = nullptr, comm::Device device = {});

void expect_same_bits(const Tensors& a, const Tensors& b, const std::string& what);
void expect_same_bits(const Snapshot& a, const Snapshot& b, const std::string& what);

// ShardedOptimizer::fetch_verdict, waited for.
bool non_finite(const ShardedOptimizer& optimizer, comm::StreamView stream);

// One rank, one micro-batch, given numbers: for formulas.
class SoloOptimizer {
 public:
  SoloOptimizer(const OptimizerSetup& setup, const Tensors& weights);
  SoloOptimizer(const OptimizerSetup& setup, const std::vector<models::Parameter>& trained,
                const std::vector<models::Parameter>& untrained);

  std::span<float> weights(const std::string& name);
  float weight(const std::string& name = "w") { return weights(name)[0]; }
  // Absent gradients are 0. `values.step` is counted here.
  void step(const Tensors& gradients, StepValues values);
  void step(const Tensors& gradients, double lr) { step(gradients, StepValues{.lr = lr}); }
  ShardedOptimizer& optimizer() { return optimizer_; }
  bool non_finite() const { return testing::non_finite(optimizer_, stream_); }
  const models::ParameterLayout& layout() const { return *storage_.layout; }

 private:
  std::unique_ptr<comm::Communicator> communicator_;
  comm::Stream stream_;
  models::ParameterStorage storage_;
  ShardedOptimizer optimizer_;
  std::int64_t num_steps_ = 0;
};

// Plain SGD where everything decays.
OptimizerSetup sgd(double l2, DecayMode mode = DecayMode::kCoupled, double momentum = 0);

}  // namespace trainer::testing
