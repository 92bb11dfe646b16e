#pragma once

#include <bit>
#include <cstdint>
#include <initializer_list>
#include <utility>

#include "comm/build.h"

// Neighbouring elements that one thread of a GPU takes at once, for parallel_for_vectors.
namespace comm {

inline constexpr int kVectorBytes = 16;  // the widest access of a thread

// How many neighbours a body takes: known to the compiler, so that they stay in registers.
template <int N>
struct Lanes {};

template <int... I, class Visit>
RIDGELINE_HD void each_of(std::integer_sequence<int, I...>, const Visit& visit) {
  (visit(I), ...);
}
// visit(0), ..., visit(N - 1), unrolled: a loop that a compiler keeps indexes registers, which then
// lie in a stack frame (nvcc's choice for 8 lanes with a branch inside).
template <int N, class Visit>
RIDGELINE_HD void each(Lanes<N>, const Visit& visit) {
  each_of(std::make_integer_sequence<int, N>{}, visit);
}

// Elements of type T in one access.
template <typename T>
inline constexpr int kVectorLanes = kVectorBytes / static_cast<int>(sizeof(T));

// N elements as they lie in memory; one access where they make up to kVectorBytes.
template <typename T, int N>
struct alignas(N * sizeof(T) < kVectorBytes ? N * sizeof(T) : kVectorBytes) Pack {
  T at[N];
  RIDGELINE_HD T& operator[](int lane) { return at[lane]; }
  RIDGELINE_HD const T& operator[](int lane) const { return at[lane]; }
};

// Elements of two bytes stay in words, as they are loaded: as elements, those that a branch loads
// would lie in a stack frame, and each would take a register.
template <typename T, int N>
  requires(sizeof(T) == 2 && N > 1)
struct alignas(N * sizeof(T) < kVectorBytes ? N * sizeof(T) : kVectorBytes) Pack<T, N> {
  struct Half {  // of a word
    std::uint32_t& word;
    int shift;
    RIDGELINE_HD operator float() const {
      return std::bit_cast<T>(static_cast<std::uint16_t>(word >> shift));
    }
    RIDGELINE_HD Half& operator=(T value) {
      const std::uint32_t bits = std::bit_cast<std::uint16_t>(value);
      word = (word & 0xFFFF0000u >> shift) | bits << shift;
      return *this;
    }
  };
  std::uint32_t words[N / 2];
  RIDGELINE_HD Half operator[](int lane) { return {words[lane / 2], lane % 2 * 16}; }
  RIDGELINE_HD T operator[](int lane) const {
    return std::bit_cast<T>(static_cast<std::uint16_t>(words[lane / 2] >> lane % 2 * 16));
  }
};

// Elements [0, N) of `from`, or into `to`, rounded if they come as floats. REQUIRES: N == 1, or an
// address that is a multiple of the alignment of Pack<T, N>.
template <typename T, int N>
RIDGELINE_HD Pack<T, N> load(const T* from, Lanes<N>) {
  if constexpr (N == 1) {
    return {*from};
  } else {
    return *reinterpret_cast<const Pack<T, N>*>(from);
  }
}
template <typename T, int N>
RIDGELINE_HD void store(T* to, const Pack<T, N>& values) {
  if constexpr (N == 1) {
    *to = values[0];
  } else {
    *reinterpret_cast<Pack<T, N>*>(to) = values;
  }
}
template <typename T, int N>
  requires(sizeof(T) == 2)
RIDGELINE_HD void store(T* to, const Pack<float, N>& values) {
  if constexpr (N == 1) {
    *to = values[0];
  } else {
    Pack<T, N> rounded;
    each(Lanes<N / 2>{}, [&](int k) {
      const auto low = std::bit_cast<std::uint16_t>(T(values[2 * k]));
      const auto high = std::bit_cast<std::uint16_t>(T(values[2 * k + 1]));
      rounded.words[k] = low | std::uint32_t{high} << 16;
    });
    store(to, rounded);
  }
}

// Whether vectors may begin at each of these addresses; null may.
inline bool vectors_fit(std::initializer_list<const void*> pointers) {
  for (const void* pointer : pointers) {
    if (reinterpret_cast<std::uintptr_t>(pointer) % kVectorBytes != 0) return false;
  }
  return true;
}

// A body for runs of N neighbours, called with the number of the run; `n` elements in all.
template <int N, class Body>
struct RunOfLanes {
  Body body;
  std::int64_t n;
  RIDGELINE_HD void operator()(std::int64_t run) const {
    const std::int64_t begin = run * N;
    if (begin + N <= n) return body(begin, Lanes<N>{});
    for (std::int64_t i = begin; i < n; ++i) body(i, Lanes<1>{});
  }
};

// The same for ranges of a host, whose compiler makes vectors of the loop.
template <class Body>
struct RangeOfLanes {
  Body body;
  RIDGELINE_HD void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t i = begin; i < end; ++i) body(i, Lanes<1>{});
  }
};

}  // namespace comm
