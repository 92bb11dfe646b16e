#include "models/ops/elementwise.h"

namespace models {
namespace {

template <typename T>
struct GiveGradient {
  const T* from;
  T* to;
  bool accumulate;
  RIDGELINE_HD void operator()(std::int64_t begin, std::int64_t end) const {
    if (accumulate) {
      for (std::int64_t i = begin; i < end; ++i) to[i] = to[i] + from[i];
    } else {
      for (std::int64_t i = begin; i < end; ++i) to[i] = from[i];
    }
  }
};

}  // namespace

void give_gradient(comm::StreamView stream, const Tensor& from, const Tensor& to,
                   GradientMode mode) {
  if (mode == GradientMode::kNone) return;
  REQUIRE(from.type == to.type, "{} to {}", to_string(from.type), to_string(to.type));
  with_element(from.type, [&](auto zero) {
    using T = decltype(zero);
    sweep(stream, from.physical_count(),
          GiveGradient<T>{from.as<T>(), to.as<T>(), mode == GradientMode::kAccumulate});
  });
}

}  // namespace models
