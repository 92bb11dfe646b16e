#pragma once

#include <cuda_runtime.h>

#include "comm/error.h"

// A call of the CUDA runtime: any failure is kDevice, since errors of a device are sticky.
#define CHECK_CUDA(call)                                                                         \
  do {                                                                                           \
    const cudaError_t check_cuda_error = (call);                                                 \
    if (check_cuda_error != cudaSuccess)                                                         \
      ::comm::fail(::comm::ExitCode::kDevice, "{}:{}: {}: {}; run `ridgeline doctor`", __FILE__, \
                   __LINE__, #call, cudaGetErrorString(check_cuda_error));                       \
  } while (false)
