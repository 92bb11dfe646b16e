#include "trainer/step_capture.h"

namespace trainer {

bool captures_steps(const Config& config, comm::StreamView stream,
                    const ShardedOptimizer& optimizer) {
  return config.runtime.capture != Capture::kNone && !stream.on_cpu() &&
         config.model.norm != Norm::kSync && optimizer.can_be_recorded();
}

bool StepCapture::launch(const Kind& kind, const std::function<void()>& work) {
  const auto found = graphs_.find(kind);
  if (!enabled_ || found == graphs_.end()) {
    work();
    if (enabled_) graphs_.emplace(kind, std::nullopt);
    return true;
  }
  std::optional<comm::WorkGraph>& graph = found->second;
  const bool recorded = graph.has_value();
  if (!recorded) graph.emplace(stream_, work);
  graph->launch(stream_);
  return !recorded;
}

}  // namespace trainer
