#pragma once

namespace comm {

// A named piece of the host's time, which NVIDIA's profilers show above what it launched (NVTX).
// Ranges nest. Nothing in a build without CUDA.
class ScopedRange {
 public:
  explicit ScopedRange(const char* name);
  ~ScopedRange();
  ScopedRange(const ScopedRange&) = delete;
  ScopedRange& operator=(const ScopedRange&) = delete;
};

}  // namespace comm
