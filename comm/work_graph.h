#pragma once

#include <functional>

#include "comm/stream.h"

namespace comm {

// Work of a CUDA stream, recorded once and launched as a whole, many times. Move-only.
// What a launch repeats are the calls as they were recorded: pointers, sizes and values that a
// kernel was given by value stay; what it reads through pointers is read anew. So whatever changes
// from launch to launch lies in memory.
class WorkGraph {
 public:
  // Calls `work`, which launches on `stream`: nothing of it runs yet.
  // REQUIRES: a CUDA stream; `work` neither allocates, synchronizes nor copies from or to host
  // memory other than Buffer::for_transfer's. Errors: kDevice when it does.
  WorkGraph(StreamView stream, const std::function<void()>& work);
  ~WorkGraph();
  WorkGraph(WorkGraph&& other) noexcept;
  WorkGraph& operator=(WorkGraph&&) = delete;

  // ASYNC: what the work reads and writes stays alive until the stream has passed.
  // REQUIRES: a stream of the same device.
  void launch(StreamView stream) const;

 private:
  void* handle_;  // cudaGraphExec_t
};

}  // namespace comm
