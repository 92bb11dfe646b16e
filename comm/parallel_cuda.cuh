#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "comm/cuda_check.h"
#include "comm/error.h"
#include "comm/stream.h"

// Launches of parallel.h for files that nvcc compiles. Grids have a fixed shape by n alone, and no
// launch uses atomics, so results do not depend on the GPU.
// The inline namespaces here and in parallel_no_cuda.h keep apart what a program holds of both.
namespace comm {
inline namespace with_nvcc {

inline constexpr int kCudaThreads = 256;

inline unsigned cuda_grid(std::int64_t num_threads) {
  const std::int64_t blocks = (num_threads + kCudaThreads - 1) / kCudaThreads;
  return static_cast<unsigned>(std::min<std::int64_t>(blocks, std::int64_t{1} << 30));
}

inline cudaStream_t cuda_stream(StreamView stream) {
  return static_cast<cudaStream_t>(stream.handle());
}

template <class Body>
__global__ void for_kernel(std::int64_t n, Body body) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n;
       i += step)
    body(i);
}

template <class Body>
void cuda_for(StreamView stream, std::int64_t n, const Body& body) {
  for_kernel<<<cuda_grid(n), kCudaThreads, 0, cuda_stream(stream)>>>(n, body);
  CHECK_CUDA(cudaGetLastError());
}

// One element a thread: neighbours load neighbours.
template <class Body>
struct OneByOne {
  Body body;
  __device__ void operator()(std::int64_t i) const { body(i, i + 1); }
};

template <class Body>
void cuda_for_blocks(StreamView stream, std::int64_t n, const Body& body) {
  cuda_for(stream, n, OneByOne<Body>{body});
}

// lane_sum of parallel.h by one warp: lane l is thread l, the tree is five shuffles.
template <class Body>
__device__ double warp_lane_sum(std::int64_t begin, std::int64_t end, const Body& body) {
  double lane = 0;
  for (std::int64_t i = begin + threadIdx.x % 32; i < end; i += 32) lane += body(i);
  for (int width = 16; width > 0; width /= 2) lane += __shfl_down_sync(0xffffffffu, lane, width);
  return lane;
}

// One warp a leaf of 1024 elements.
template <class Body>
__global__ void block_sums_kernel(std::int64_t n, Body body, double* sums) {
  const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * blockDim.x / 32;
  const std::int64_t first =
      (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  for (std::int64_t b = first; b * 1024 < n; b += warps) {
    const std::int64_t end = (b + 1) * 1024;
    const double sum = warp_lane_sum(b * 1024, end < n ? end : n, body);
    if (threadIdx.x % 32 == 0) sums[b] = sum;
  }
}

template <class Body>
void cuda_block_sums(StreamView stream, std::int64_t n, const Body& body, double* sums) {
  const unsigned grid = cuda_grid((n + 1023) / 1024 * 32);
  block_sums_kernel<<<grid, kCudaThreads, 0, cuda_stream(stream)>>>(n, body, sums);
  CHECK_CUDA(cudaGetLastError());
}

template <int kThreads>  // a template, because a kernel cannot be inline
__global__ void total_kernel(std::int64_t count, const double* sums, double* out) {
  const double sum = warp_lane_sum(0, count, [sums](std::int64_t b) { return sums[b]; });
  if (threadIdx.x == 0) *out = sum;
}

inline void cuda_total(StreamView stream, std::int64_t count, const double* sums, double* out) {
  total_kernel<32><<<1, 32, 0, cuda_stream(stream)>>>(count, sums, out);
  CHECK_CUDA(cudaGetLastError());
}

}  // namespace with_nvcc
}  // namespace comm
