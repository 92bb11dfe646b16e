#include "comm/work_graph.h"

#include <utility>

#include "comm/cuda_calls.h"
#include "comm/error.h"

namespace comm {
namespace {

void* capture(StreamView stream, const std::function<void()>& work) {
  REQUIRE(!stream.on_cpu(), "a CPU stream has nothing to record");
  cuda::begin_capture(stream);
  try {
    work();
  } catch (...) {
    cuda::cancel_capture(stream);
    throw;
  }
  return cuda::end_capture(stream);
}

}  // namespace

WorkGraph::WorkGraph(StreamView stream, const std::function<void()>& work)
    : handle_(capture(stream, work)) {}

WorkGraph::WorkGraph(WorkGraph&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

WorkGraph::~WorkGraph() {
  if (handle_ != nullptr) cuda::destroy_graph(handle_);
}

void WorkGraph::launch(StreamView stream) const { cuda::launch_graph(stream, handle_); }

}  // namespace comm
