// Schedule: streams. Compute is one stream; the markers are answered on the communication stream,
// so that exchange and update of a bucket go on beside the backward pass of earlier layers.
#include "models/graph/plan.h"

namespace models {

Plan schedule(Plan plan) {
  for (PlanStep& step : plan.steps) {
    const bool marker =
        step.kind == StepKind::kBucketReady || step.kind == StepKind::kBucketNeeded;
    step.stream = marker ? 1 : 0;
  }
  return plan;
}

Plan plan(const Graph& graph, const PlanOptions& options) {
  REQUIRE(options.precision == Precision::kFp32 || options.device == comm::DeviceKind::kCuda,
          "CPUs compute in fp32");
  LaidOutGraph laid_out = choose_layouts(fuse(graph, options.disabled_fusions), options.precision);
  return place(
      schedule(assign_buckets(differentiate(std::move(laid_out), options), options)));
}

}  // namespace models
