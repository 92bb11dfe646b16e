#pragma once

#include "models/ops/fast_math.h"
#include "models/ops/match_anchors.h"

namespace models {

inline constexpr float kFocalAlpha = 0.25f;
inline constexpr std::int32_t kNoClass = -3;  // of a channel of padding

// The focal loss of one logit, or its derivative, before the normaliser. With p = sigmoid(x):
//   negative (1 - alpha) p^2 softplus(x), derivative (1 - alpha) p^2 (2 q s + p)
//   positive alpha q^2 (softplus(x) - x), derivative -alpha q^2 (2 p s' + q)
// wanted: the target of its anchor; label: the class that the logit stands for
template <bool kBackward>
RIDGELINE_HD inline float focal_element(float x, std::int32_t wanted, std::int32_t label) {
  const bool positive = wanted == label;
  const bool counts = wanted != kIgnored && label != kNoClass;
  const Sigmoid s = sigmoid_parts(x);
  const float weight = counts ? (positive ? kFocalAlpha : 1.0f - kFocalAlpha) : 0.0f;
  const float miss = positive ? s.q : s.p;  // distance of p from its target
  const float entropy = positive ? s.softplus - x : s.softplus;
  if constexpr (!kBackward) return weight * miss * miss * entropy;
  const float slope = 2.0f * (1.0f - miss) * entropy + miss;
  const float d = weight * miss * miss * slope;
  return positive ? -d : d;
}

}  // namespace models
