#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "comm/cuda_calls.h"
#include "comm/stream.h"

// Launches of parallel.h for a file that nvcc did not compile: the loop of a kernel as one closure
// for cuda::run_body, which is an error but for a stand-in of a GPU. The same ranges and the same
// order of sums as parallel_cuda.cuh.
namespace comm {

template <class Body>
double lane_sum(std::int64_t begin, std::int64_t end, const Body& body);

inline namespace without_nvcc {

template <class Loop>
void run_loop(StreamView stream, Loop loop) {
  static_assert(std::is_trivially_copyable_v<Loop>, "a kernel takes its captures as bytes");
  __builtin_clear_padding(&loop);  // or an old pointer in it would look like a capture
  cuda::run_body(stream, std::as_bytes(std::span<const Loop>(&loop, 1)), loop);
}

template <class Body>
struct ForLoop {
  std::int64_t n;
  Body body;
  void operator()() const {
#pragma omp parallel for schedule(static) if (n > 4096)
    for (std::int64_t i = 0; i < n; ++i) body(i);
  }
};

template <class Body>
struct BlocksLoop {
  std::int64_t n;
  Body body;
  void operator()() const {
#pragma omp parallel for schedule(static) if (n > 4096)
    for (std::int64_t i = 0; i < n; ++i) body(i, i + 1);
  }
};

template <class Body>
struct BlockSumsLoop {
  std::int64_t n;
  double* sums;
  Body body;
  void operator()() const {
    const std::int64_t count = (n + 1023) / 1024;
#pragma omp parallel for schedule(static) if (count > 1)
    for (std::int64_t b = 0; b < count; ++b)
      sums[b] = lane_sum(b * 1024, std::min(n, (b + 1) * 1024), body);
  }
};

struct TotalLoop {
  std::int64_t count;
  const double* sums;
  double* out;
  void operator()() const {
    const double* const from = sums;
    *out = lane_sum(0, count, [from](std::int64_t b) { return from[b]; });
  }
};

template <class Body>
void cuda_for(StreamView stream, std::int64_t n, const Body& body) {
  run_loop(stream, ForLoop<Body>{n, body});
}

template <class Body>
void cuda_for_blocks(StreamView stream, std::int64_t n, const Body& body) {
  run_loop(stream, BlocksLoop<Body>{n, body});
}

template <class Body>
void cuda_block_sums(StreamView stream, std::int64_t n, const Body& body, double* sums) {
  run_loop(stream, BlockSumsLoop<Body>{n, sums, body});
}

inline void cuda_total(StreamView stream, std::int64_t count, const double* sums, double* out) {
  run_loop(stream, TotalLoop{count, sums, out});
}

}  // namespace without_nvcc
}  // namespace comm
