#include "models/ops/elementwise.h"

namespace models {
namespace {

struct GiveGradient {
  const float* from;
  float* to;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t begin, std::int64_t end) const {
    if (accumulate) {
      for (std::int64_t i = begin; i < end; ++i) to[i] += from[i];
    } else {
      for (std::int64_t i = begin; i < end; ++i) to[i] = from[i];
    }
  }
};

}  // namespace

void give_gradient(comm::StreamView stream, const Tensor& from, const Tensor& to,
                   GradientMode mode) {
  if (mode == GradientMode::kNone) return;
  comm::parallel_for_blocks(stream, from.physical_count(), kSweep,
                            GiveGradient{from.f32(), to.f32(), mode == GradientMode::kAccumulate});
}

}  // namespace models
