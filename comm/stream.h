#pragma once

#include <cstddef>

#include "comm/device.h"

namespace comm {

class Event;

// An order of work on a device, not owned. On the CPU work runs inside the call, on `num_threads`
// threads. Work of two streams is unordered unless an Event orders it.
class StreamView {
 public:
  StreamView(int) = delete;  // neither 0 nor nullptr is a stream: the default stream is never meant
  StreamView(std::nullptr_t) = delete;
  StreamView(Device device, int num_threads, void* handle)
      : device_(device), num_threads_(num_threads), handle_(handle) {}

  Device device() const { return device_; }
  bool on_cpu() const { return device_.kind == DeviceKind::kCpu; }
  int num_threads() const { return num_threads_; }  // of work on the CPU
  void* handle() const { return handle_; }          // cudaStream_t; null on the CPU

  // Errors: kDevice when work of the stream failed.
  void record(const Event& event) const;  // `event` happens after all work so far
  void wait(const Event& event) const;    // later work starts after `event`
  void synchronize() const;               // blocks the host until all work so far is done

 private:
  Device device_;
  int num_threads_;
  void* handle_;
};

// Owner of a stream. Move-only. REQUIRES: num_threads >= 1.
class Stream {
 public:
  explicit Stream(Device device, int num_threads = 1);
  ~Stream();
  Stream(Stream&& other) noexcept;
  Stream& operator=(Stream&&) = delete;

  StreamView view() const { return view_; }
  operator StreamView() const { return view_; }

 private:
  StreamView view_;
};

// A point in the work of a stream. Move-only.
class Event {
 public:
  explicit Event(Device device);
  ~Event();
  Event(Event&& other) noexcept;
  Event& operator=(Event&&) = delete;

  bool done() const;                        // true on the CPU
  void synchronize() const;                 // blocks the host until it has happened
  void* handle() const { return handle_; }  // cudaEvent_t; null on the CPU

 private:
  Device device_;
  void* handle_ = nullptr;
};

}  // namespace comm
