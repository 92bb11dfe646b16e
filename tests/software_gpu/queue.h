#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "tests/software_gpu/memory.h"

// Streams of the software GPU. Work is queued and runs as late as it may: when the host waits for
// it, on the thread that waits. So what a program forgets to wait for has not happened.
namespace software_gpu {

class Stream;

// One recording of an event.
struct Point {
  std::shared_ptr<Stream> stream;
  bool done = false;
  bool asked = false;  // a program that polls has been told once that it is not done
};

// What a stream runs in one go.
struct Work {
  const char* name;                                  // of a kernel: of its type, mangled
  std::shared_ptr<const std::function<void()>> run;  // null for a point or a wait
  std::vector<Bytes> memory;  // allocations that it reads or writes, as far as known
  std::shared_ptr<Point> reached, awaited;
};

// Held by every call: one thing runs at a time on all devices.
std::recursive_mutex& device_lock();

class Stream : public std::enable_shared_from_this<Stream> {
 public:
  explicit Stream(int device) : device_(device) {}

  int device() const { return device_; }
  bool capturing() const { return capturing_; }
  // Queued, or recorded while this stream is captured. Errors: kDevice where CUDA has one.
  void add(Work work);
  // Runs what is queued up to the point, or all of it.
  void drain(const Point* until = nullptr);

  void begin_capture();
  std::vector<Work> end_capture();  // Errors: kDevice when the capture was spoilt.
  void cancel_capture();

  // Name of queued work that uses the allocation; null: none.
  const char* user_of(Bytes allocation) const;

 private:
  int device_;
  bool capturing_ = false;
  std::deque<Work> queue_;
  std::vector<Work> captured_;
};

std::shared_ptr<Stream> create_stream(int device);
Stream& stream_of(void* handle);  // Errors: kDevice for a handle of no stream.
void forget_stream(void* handle);

// Runs everything, or ends the process where queued work still uses what is about to be released.
// An exception under way makes it the former.
void before_release(Bytes allocation);

// Work that calls `body`, which holds the bytes `captured`. Errors: kDevice when they hold a
// pointer to ordinary memory of the host, which a GPU could not follow.
Work kernel(const char* name, std::span<const std::byte> captured, std::function<void()> body);

// What the program has had run so far; calls that were recorded count as the launch of their graph.
struct Launches {
  std::int64_t kernels = 0, copies = 0, graphs = 0;  // copies: zeros too
};
Launches& launches();  // under the lock

// For a call that a thread may not make while it captures: spoils the capture. Errors: kDevice.
void refuse_in_capture(const char* call);

}  // namespace software_gpu
