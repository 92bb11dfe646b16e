#pragma once

#include <memory>

#include "comm/bf16.h"
#include "models/graph/op.h"

// Activations are stored as float or comm::Bf16. A body is a template over that type T: what it
// loads becomes float, it computes in float, what it stores is rounded once. So one body serves
// every precision.
namespace models {

// call(T{}) for the type of activations that `type` names.
template <typename Call>
decltype(auto) with_element(Type type, const Call& call) {
  if (type == Type::kBF16) return call(comm::Bf16{});
  REQUIRE(type == Type::kF32, "activations of {}", to_string(type));
  return call(0.0f);
}

// KernelOf<T>(arguments...)
template <template <typename> class KernelOf, typename... Arguments>
std::unique_ptr<Kernel> make_kernel(Type type, Arguments&&... arguments) {
  return with_element(type, [&](auto zero) -> std::unique_ptr<Kernel> {
    return std::make_unique<KernelOf<decltype(zero)>>(std::forward<Arguments>(arguments)...);
  });
}

}  // namespace models
