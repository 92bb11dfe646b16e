#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "comm/build.h"
#include "comm/error.h"
#include "comm/parallel_vectors.h"
#include "comm/stream.h"
#include RIDGELINE_DEVICE_LAUNCH

// One body for both devices:
//   parallel_for(stream, n, [=] RIDGELINE_HD(std::int64_t i) { y[i] = max(x[i], 0.0f); });
// Bodies capture by value (pointers, sizes), never spans' owners. On the host nvcc calls a lambda
// marked RIDGELINE_HD through a pointer; a struct with a RIDGELINE_HD operator() is inlined, so
// bodies of few instructions are written as structs, or for ranges (parallel_for_blocks). The type
// of a body belongs to one .cpp (Invariant: two files, one nvcc's and one not, share no launch).
namespace comm {

// Elements of the leaves of a reduction, and the lanes that add inside one.
inline constexpr std::int64_t kReduceBlock = 1024;
inline constexpr std::int64_t kReduceLanes = 32;

constexpr std::int64_t num_blocks(std::int64_t n, std::int64_t block) {
  return (n + block - 1) / block;
}
constexpr std::int64_t num_reduce_blocks(std::int64_t n) { return num_blocks(n, kReduceBlock); }

// body(i) for i in [0, n) on the host. `grain`: elements that are worth one more thread.
template <class Body>
void host_for(int max_threads, std::int64_t n, const Body& body, std::int64_t grain) {
  const auto num_threads =
      static_cast<int>(std::min<std::int64_t>(max_threads, num_blocks(n, grain)));
  if (num_threads <= 1) {
    for (std::int64_t i = 0; i < n; ++i) body(i);
    return;
  }
#pragma omp parallel for schedule(static) num_threads(num_threads)
  for (std::int64_t i = 0; i < n; ++i) body(i);
}

// body(i) for i in [0, n), in any order. `grain` as above, about 10 us of work; 1 for heavy bodies.
template <class Body>
void parallel_for(StreamView stream, std::int64_t n, Body body, std::int64_t grain = 4096) {
  if (n <= 0) return;
  if (!stream.on_cpu()) return cuda_for(stream, n, body);
  host_for(stream.num_threads(), n, body, grain);
}

// body(begin, end) for [0, block), [block, 2 block), ... up to n on the host, whatever the number
// of threads.
template <class Body>
void host_for_blocks(int max_threads, std::int64_t n, std::int64_t block, const Body& body) {
  REQUIRE(block > 0, "block {}", block);
  const auto range = [&body, n, block](std::int64_t b) {
    body(b * block, std::min(n, (b + 1) * block));
  };
  host_for(max_threads, num_blocks(n, block), range, 1);
}

// body(begin, end) for ranges that cover [0, n), in any order: for bodies whose inner loop the
// compiler should vectorise. On the host they are those of host_for_blocks; on a GPU each thread
// takes one element. REQUIRES: the result of a body that runs on a GPU does not depend on where the
// ranges are cut.
template <class Body>
void parallel_for_blocks(StreamView stream, std::int64_t n, std::int64_t block, Body body) {
  REQUIRE(block > 0, "block {}", block);
  if (n <= 0) return;
  if (!stream.on_cpu()) return cuda_for_blocks(stream, n, body);
  host_for_blocks(stream.num_threads(), n, block, body);
}

// body(i, Lanes<k>{}) for runs [i, i + k) of neighbours that cover [0, n), in any order: k is N on
// a GPU where vectors may begin at all of `pointers`, those that the body adds i to, and 1 for what
// is left over; on the host it is 1, in ranges of `block`. The body loads all its elements before
// it stores any, so an output may be an input. REQUIRES: the result does not depend on k.
template <int N, class Body>
void parallel_for_vectors(StreamView stream, std::int64_t n, std::int64_t block, const Body& body,
                          std::initializer_list<const void*> pointers) {
  if (stream.on_cpu()) {
    return host_for_blocks(stream.num_threads(), n, block, RangeOfLanes<Body>{body});
  }
  if (!vectors_fit(pointers)) return parallel_for(stream, n, RunOfLanes<1, Body>{body, n});
  parallel_for(stream, num_blocks(n, N), RunOfLanes<N, Body>{body, n});
}

template <class Body>
struct EachOfRow {
  Body body;
  std::int64_t columns;
  RIDGELINE_HD void operator()(std::int64_t i) const { body(i / columns, i % columns); }
};

// body(row) for every row on a CPU, which takes vectors of it; on a GPU body(row, column) for every
// element, so that neighbouring threads read neighbouring elements. `grain`: in rows.
template <class Body>
void parallel_for_rows(StreamView stream, std::int64_t rows, std::int64_t columns, const Body& body,
                       std::int64_t grain) {
  if (stream.on_cpu()) return parallel_for(stream, rows, body, grain);
  parallel_for(stream, rows * columns, EachOfRow<Body>{body, columns});
}

// Sum of body(begin) ... body(end - 1) in the one order every reduction uses: lane l adds the
// elements begin + l, begin + l + 32, ... ascending, then the lanes are added as a binary tree.
template <class Body>
double lane_sum(std::int64_t begin, std::int64_t end, const Body& body) {
  double lanes[kReduceLanes] = {};
  std::int64_t i = begin;
  for (; i + kReduceLanes <= end; i += kReduceLanes)
    for (std::int64_t l = 0; l < kReduceLanes; ++l) lanes[l] += body(i + l);
  for (std::int64_t l = 0; i + l < end; ++l) lanes[l] += body(i + l);
  for (std::int64_t width = kReduceLanes / 2; width > 0; width /= 2)
    for (std::int64_t l = 0; l < width; ++l) lanes[l] += lanes[l + width];
  return lanes[0];
}

// sums[b] = lane_sum of the b-th block of kReduceBlock elements: the same bits for any number of
// threads. body(i) -> double may also write, once per i.  sums: (num_reduce_blocks(n))
template <class Body>
void parallel_block_sums(StreamView stream, std::int64_t n, Body body, std::span<double> sums) {
  const std::int64_t count = num_reduce_blocks(std::max<std::int64_t>(n, 0));
  REQUIRE(static_cast<std::int64_t>(sums.size()) >= count, "{} sums, {} blocks", sums.size(),
          count);
  if (n <= 0) return;
  if (!stream.on_cpu()) return cuda_block_sums(stream, n, body, sums.data());
  double* const out = sums.data();
  const auto block = [&body, out, n](std::int64_t b) {
    out[b] = lane_sum(b * kReduceBlock, std::min(n, (b + 1) * kReduceBlock), body);
  };
  host_for(stream.num_threads(), count, block, 4);
}

// out[0] = the sum of body(i), i in [0, n): block sums, then lane_sum over them. No atomics; the
// host reads nothing.  scratch: (num_reduce_blocks(n)), out: (1), both where the stream's device
// can reach them.
template <class Body>
void parallel_reduce(StreamView stream, std::int64_t n, Body body, std::span<double> scratch,
                     std::span<double> out) {
  REQUIRE(!out.empty(), "no place for the sum");
  parallel_block_sums(stream, n, body, scratch);
  const std::int64_t count = num_reduce_blocks(std::max<std::int64_t>(n, 0));
  if (!stream.on_cpu()) return cuda_total(stream, count, scratch.data(), out.data());
  const double* const sums = scratch.data();
  out[0] = lane_sum(0, count, [sums](std::int64_t b) { return sums[b]; });
}

// The same, returned. Host memory only: for tests and set-up, since it allocates.
// REQUIRES: a CPU stream.
template <class Body>
double parallel_reduce(StreamView stream, std::int64_t n, Body body) {
  REQUIRE(stream.on_cpu(), "the host cannot read a sum on {}", to_string(stream.device()));
  std::vector<double> scratch(num_reduce_blocks(std::max<std::int64_t>(n, 0)));
  double sum = 0;
  parallel_reduce(stream, n, body, scratch, std::span<double>(&sum, 1));
  return sum;
}

}  // namespace comm
