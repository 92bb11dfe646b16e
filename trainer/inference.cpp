#include "trainer/inference.h"

namespace trainer {

Inference::Inference(Network& network, Loader& loader)
    : network_(network), feeder_(loader, network.stream()) {}

const HostOutputs& Inference::run(Batch& batch, std::int64_t parameter_version) {
  const auto bucket = static_cast<std::size_t>(batch.bucket);
  models::Executable& plan = network_.inference(bucket);
  if (bucket >= outputs_.size()) outputs_.resize(bucket + 1);
  if (!outputs_[bucket]) outputs_[bucket] = std::make_unique<HostOutputs>(plan, network_.stream());
  feeder_.feed(plan, batch);
  models::StepObserver none;
  plan.run(none, parameter_version);
  outputs_[bucket]->fetch();
  return *outputs_[bucket];
}

}  // namespace trainer
