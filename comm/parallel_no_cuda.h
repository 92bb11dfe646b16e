#pragma once

#include <cstdint>

#include "comm/error.h"
#include "comm/stream.h"

// Stand-ins for parallel_cuda.cuh in a file that nvcc did not compile.
namespace comm {
inline namespace without_nvcc {

[[noreturn]] inline void fail_without_nvcc() {
  fail(ExitCode::kDevice, "this kernel was compiled for the CPU only; build the cuda preset");
}

template <class Body>
[[noreturn]] void cuda_for(StreamView, std::int64_t, const Body&) {
  fail_without_nvcc();
}

template <class Body>
[[noreturn]] void cuda_for_blocks(StreamView, std::int64_t, std::int64_t, const Body&) {
  fail_without_nvcc();
}

template <class Body>
[[noreturn]] void cuda_block_sums(StreamView, std::int64_t, const Body&, double*) {
  fail_without_nvcc();
}

[[noreturn]] inline void cuda_total(StreamView, std::int64_t, const double*, double*) {
  fail_without_nvcc();
}

}  // namespace without_nvcc
}  // namespace comm
