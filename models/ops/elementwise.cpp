#include "models/ops/elementwise.h"

namespace models {
namespace {

template <typename T>
struct GiveGradient {
  const T* from;
  T* to;
  bool accumulate;
  template <int N>
  RIDGELINE_HD void operator()(std::int64_t i, comm::Lanes<N> lanes) const {
    const comm::Pack<T, N> given = comm::load(from + i, lanes);
    if (!accumulate) return comm::store(to + i, given);
    const comm::Pack<T, N> there = comm::load(to + i, lanes);
    comm::Pack<float, N> sum;
    comm::each(comm::Lanes<N>{}, [&](int k) { sum[k] = there[k] + given[k]; });
    comm::store(to + i, sum);
  }
};

}  // namespace

void give_gradient(comm::StreamView stream, const Tensor& from, const Tensor& to,
                   GradientMode mode) {
  if (mode == GradientMode::kNone) return;
  REQUIRE(from.type == to.type, "{} to {}", to_string(from.type), to_string(to.type));
  with_element(from.type, [&](auto zero) {
    using T = decltype(zero);
    sweep_vectors<T>(stream, from.physical_count(),
                     GiveGradient<T>{from.as<T>(), to.as<T>(), mode == GradientMode::kAccumulate},
                     {from.data, to.data});
  });
}

}  // namespace models
