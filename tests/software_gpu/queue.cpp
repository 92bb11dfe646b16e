#include "tests/software_gpu/queue.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <utility>

#include "comm/error.h"
#include "comm/threads.h"
#include "tests/software_gpu/fault.h"

namespace software_gpu {
namespace {

// Guarded by device_lock().
std::map<void*, std::shared_ptr<Stream>> g_streams;

thread_local Stream* t_capturing = nullptr;
thread_local std::string t_spoilt;  // what did; empty: nothing

void require_live(const Work& work) {
  for (const Bytes memory : work.memory)
    if (allocation_of(memory.data()).data() != memory.data())
      die(readable(work.name) + " is launched on memory that was released");
}

}  // namespace

std::recursive_mutex& device_lock() {
  static std::recursive_mutex lock;
  return lock;
}

void Stream::add(Work work) {
  require_live(work);
  if (!capturing_) return queue_.push_back(std::move(work));
  if (t_capturing != this)
    comm::fail(comm::ExitCode::kDevice, "another thread launches {} on a stream that is captured",
               readable(work.name));
  if (!work.run) refuse_in_capture("an event");  // streams that join a capture are not modelled
  captured_.push_back(std::move(work));
}

void Stream::drain(const Point* until) {
  if (queue_.empty() || (until != nullptr && until->done)) return;
  const Access access;
  // Kernels are many and short: teams of threads that wait for each other cost more than they give,
  // tenfold where other programs run (69 op tests: 175 s, with one thread 12).
  const comm::OneThread one;
  while (!queue_.empty() && (until == nullptr || !until->done)) {
    const Work work = std::move(queue_.front());
    queue_.pop_front();
    if (work.awaited && !work.awaited->done) work.awaited->stream->drain(work.awaited.get());
    if (work.run) {
      set_running(work.name);
      (*work.run)();
      set_running(nullptr);
    }
    if (work.reached) work.reached->done = true;
  }
}

void Stream::begin_capture() {
  if (capturing_ || t_capturing != nullptr)
    comm::fail(comm::ExitCode::kDevice, "a capture inside a capture");
  capturing_ = true;
  t_capturing = this;
  t_spoilt.clear();
  captured_.clear();
}

void Stream::cancel_capture() {
  capturing_ = false;
  t_capturing = nullptr;
}

std::vector<Work> Stream::end_capture() {
  if (!capturing_ || t_capturing != this)
    comm::fail(comm::ExitCode::kDevice, "the end of a capture that this thread did not begin");
  cancel_capture();
  if (!t_spoilt.empty())
    comm::fail(comm::ExitCode::kDevice, "the capture was spoilt by {}", t_spoilt);
  return std::exchange(captured_, {});
}

const char* Stream::user_of(Bytes allocation) const {
  for (const Work& work : queue_)
    for (const Bytes memory : work.memory)
      if (memory.data() == allocation.data()) return work.name;
  return nullptr;
}

std::shared_ptr<Stream> create_stream(int device) {
  auto stream = std::make_shared<Stream>(device);
  g_streams[stream.get()] = stream;
  return stream;
}

Stream& stream_of(void* handle) {
  const auto found = g_streams.find(handle);
  if (found == g_streams.end()) comm::fail(comm::ExitCode::kDevice, "no stream {}", handle);
  return *found->second;
}

void forget_stream(void* handle) { g_streams.erase(handle); }

void before_release(Bytes allocation) {
  if (t_capturing != nullptr) die("memory is released inside a capture");
  for (const auto& [handle, stream] : g_streams) {
    const char* user = stream->user_of(allocation);
    if (user == nullptr) continue;
    if (std::uncaught_exceptions() == 0)
      die(std::to_string(allocation.size()) +
          " bytes are released, which queued work still uses: " + readable(user));
    stream->drain();
  }
}

Work kernel(const char* name, std::span<const std::byte> captured, std::function<void()> body) {
  Work work{name, std::make_shared<const std::function<void()>>(std::move(body))};
  for (std::size_t at = 0; at + sizeof(void*) <= captured.size(); at += sizeof(void*)) {
    void* pointer = nullptr;
    std::memcpy(&pointer, captured.data() + at, sizeof(pointer));
    if (ordinary_host_memory(pointer))
      comm::fail(comm::ExitCode::kDevice,
                 "an illegal memory access: {} holds {} at byte {}, which is memory of the host",
                 readable(name), pointer, at);
    const Bytes memory = allocation_of(pointer);
    if (!memory.empty()) work.memory.push_back(memory);
  }
  return work;
}

Launches& launches() {
  static Launches counts;
  return counts;
}

void refuse_in_capture(const char* call) {
  if (t_capturing == nullptr) return;
  if (t_spoilt.empty()) t_spoilt = call;
  comm::fail(comm::ExitCode::kDevice, "{} inside a capture", call);
}

}  // namespace software_gpu
