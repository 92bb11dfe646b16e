#include "comm/stream.h"

#include <utility>

#include "comm/cuda_calls.h"
#include "comm/error.h"

namespace comm {

void StreamView::record(const Event& event) const {
  if (!on_cpu()) cuda::record(*this, event.handle());
}

void StreamView::wait(const Event& event) const {
  if (!on_cpu()) cuda::wait(*this, event.handle());
}

void StreamView::synchronize() const {
  if (!on_cpu()) cuda::synchronize(*this);
}

Stream::Stream(Device device, int num_threads)
    : view_(device, num_threads,
            device.kind == DeviceKind::kCuda ? cuda::create_stream(device.index) : nullptr) {
  REQUIRE(num_threads >= 1, "{} threads", num_threads);
}

Stream::Stream(Stream&& other) noexcept
    : view_(std::exchange(other.view_, StreamView(Device{}, 1, nullptr))) {}

Stream::~Stream() {
  if (view_.handle() != nullptr) cuda::destroy_stream(view_.handle());
}

Event::Event(Device device)
    : device_(device),
      handle_(device.kind == DeviceKind::kCuda ? cuda::create_event(device.index) : nullptr) {}

Event::Event(Event&& other) noexcept
    : device_(other.device_), handle_(std::exchange(other.handle_, nullptr)) {}

Event::~Event() {
  if (handle_ != nullptr) cuda::destroy_event(handle_);
}

void Event::synchronize() const {
  if (handle_ != nullptr) cuda::synchronize_event(handle_);
}

bool Event::done() const { return device_.kind == DeviceKind::kCpu || cuda::done(handle_); }

}  // namespace comm
