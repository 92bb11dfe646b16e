// comm/cuda_calls.h on the software GPU, in place of comm/no_cuda.cpp.
#include "comm/cuda_calls.h"

#include <cstring>
#include <utility>

#include "comm/error.h"
#include "tests/software_gpu/fault.h"
#include "tests/software_gpu/queue.h"

namespace comm::cuda {
namespace {

using software_gpu::Bytes;
using software_gpu::Launches;
using software_gpu::Point;
using software_gpu::Stream;
using software_gpu::Work;
using Lock = std::lock_guard<std::recursive_mutex>;

// Event of comm: the last recording, if any.
struct EventHandle {
  std::shared_ptr<Point> point;
};

Stream& native(StreamView stream) { return software_gpu::stream_of(stream.handle()); }

void require_device(int device) {
  if (device < 0 || device >= software_gpu::num_devices())
    fail(ExitCode::kDevice, "invalid device ordinal {}; {} software GPUs", device,
         software_gpu::num_devices());
}

// Part of one allocation of a device or of page-locked memory. Errors: kDevice.
Bytes require_allocated(Bytes bytes) {
  const Bytes whole = software_gpu::allocation_of(bytes.data());
  if (whole.empty() || bytes.data() + bytes.size() > whole.data() + whole.size())
    fail(ExitCode::kDevice, "{} bytes at {} are not inside an allocation", bytes.size(),
         static_cast<const void*>(bytes.data()));
  return whole;
}

void add(Stream& queue, std::int64_t Launches::*count, Work work) {
  if (!queue.capturing()) ++(software_gpu::launches().*count);
  queue.add(std::move(work));
}

Work move_bytes(const char* name, std::span<std::byte> to, Bytes from) {
  auto run = [to, from] { std::memmove(to.data(), from.data(), from.size()); };
  return {name, std::make_shared<const std::function<void()>>(run)};
}

}  // namespace

void* allocate(int device, std::size_t size_bytes) {
  const Lock lock(software_gpu::device_lock());
  require_device(device);
  software_gpu::refuse_in_capture("cudaMalloc");
  software_gpu::explain_faults();
  void* const data = software_gpu::allocate_device(device, size_bytes);
  if (data == nullptr)
    fail(ExitCode::kDevice,
         "cuda:{} is out of memory: {} bytes wanted, {} of {} free; use a smaller "
         "train.micro_batch or data.size",
         device, size_bytes, software_gpu::memory_bytes() - software_gpu::used_bytes(device),
         software_gpu::memory_bytes());
  return data;
}

void release(int, void* data) noexcept {
  const Lock lock(software_gpu::device_lock());
  software_gpu::before_release(software_gpu::allocation_of(data));
  software_gpu::release_device(data);
}

void* allocate_host(int device, std::size_t size_bytes) {
  const Lock lock(software_gpu::device_lock());
  require_device(device);
  software_gpu::refuse_in_capture("cudaHostAlloc");
  return software_gpu::allocate_host(size_bytes);
}

void release_host(void* data) noexcept {
  const Lock lock(software_gpu::device_lock());
  software_gpu::before_release(software_gpu::allocation_of(data));
  software_gpu::release_host(data);
}

// As the runtime's manual says under "API synchronization behavior".
void copy(StreamView stream, std::span<std::byte> to, std::span<const std::byte> from) {
  const Lock lock(software_gpu::device_lock());
  Stream& queue = native(stream);
  const bool to_device = software_gpu::device_of(to.data()) >= 0;
  const bool from_device = software_gpu::device_of(from.data()) >= 0;
  const bool reads_later = from_device || software_gpu::page_locked(from);
  const bool writes_later = to_device || software_gpu::page_locked(to);
  if (!reads_later || !writes_later)
    software_gpu::refuse_in_capture("a copy of host memory that is not page-locked");
  if (reads_later && writes_later && (to_device || from_device)) {
    Work work = move_bytes("a copy", to, from);
    work.memory = {require_allocated(to), require_allocated(from)};
    add(queue, &Launches::copies, std::move(work));
  } else if (to_device) {
    Work work{"a copy of host memory"};
    work.memory = {require_allocated(to)};
    const auto read = std::make_shared<const std::vector<std::byte>>(from.begin(), from.end());
    work.run = std::make_shared<const std::function<void()>>(
        [to, read] { std::memcpy(to.data(), read->data(), read->size()); });
    add(queue, &Launches::copies, std::move(work));
  } else {
    if (from_device) require_allocated(from);
    add(queue, &Launches::copies, move_bytes("a copy to host memory", to, from));
    queue.drain();
  }
}

void zero(StreamView stream, std::span<std::byte> bytes) {
  const Lock lock(software_gpu::device_lock());
  Work work{"zeros"};
  work.memory = {require_allocated(bytes)};
  work.run = std::make_shared<const std::function<void()>>(
      [bytes] { std::memset(bytes.data(), 0, bytes.size()); });
  add(native(stream), &Launches::copies, std::move(work));
}

void* create_stream(int device) {
  const Lock lock(software_gpu::device_lock());
  require_device(device);
  return software_gpu::create_stream(device).get();
}

void destroy_stream(void* stream) noexcept {
  const Lock lock(software_gpu::device_lock());
  software_gpu::stream_of(stream).drain();
  software_gpu::forget_stream(stream);
}

void synchronize(StreamView stream) {
  const Lock lock(software_gpu::device_lock());
  software_gpu::refuse_in_capture("cudaStreamSynchronize");
  native(stream).drain();
}

void* create_event(int device) {
  require_device(device);
  return new EventHandle;
}

void destroy_event(void* event) noexcept { delete static_cast<EventHandle*>(event); }

void record(StreamView stream, void* event) {
  const Lock lock(software_gpu::device_lock());
  const auto point = std::make_shared<Point>();
  point->stream = native(stream).shared_from_this();
  static_cast<EventHandle*>(event)->point = point;
  Work work{"an event"};
  work.reached = point;
  native(stream).add(std::move(work));
}

void wait(StreamView stream, void* event) {
  const Lock lock(software_gpu::device_lock());
  Work work{"a wait"};
  work.awaited = static_cast<EventHandle*>(event)->point;
  if (work.awaited) native(stream).add(std::move(work));
}

// A program that polls sees "not yet" once, and then what it polls for.
bool done(void* event) {
  const Lock lock(software_gpu::device_lock());
  const auto point = static_cast<EventHandle*>(event)->point;
  if (!point || point->done) return true;
  if (!std::exchange(point->asked, true)) return false;
  software_gpu::refuse_in_capture("cudaEventQuery");
  point->stream->drain(point.get());
  return true;
}

void synchronize_event(void* event) {
  const Lock lock(software_gpu::device_lock());
  software_gpu::refuse_in_capture("cudaEventSynchronize");
  const auto point = static_cast<EventHandle*>(event)->point;
  if (point) point->stream->drain(point.get());
}

void begin_capture(StreamView stream) {
  const Lock lock(software_gpu::device_lock());
  native(stream).begin_capture();
}

void* end_capture(StreamView stream) {
  const Lock lock(software_gpu::device_lock());
  return new std::vector<Work>(native(stream).end_capture());
}

void cancel_capture(StreamView stream) noexcept {
  const Lock lock(software_gpu::device_lock());
  native(stream).cancel_capture();
}

void launch_graph(StreamView stream, void* graph) {
  const Lock lock(software_gpu::device_lock());
  Stream& queue = native(stream);
  if (queue.capturing()) fail(ExitCode::kDevice, "a graph inside a graph is not modelled");
  ++software_gpu::launches().graphs;
  for (const Work& work : *static_cast<std::vector<Work>*>(graph)) queue.add(work);
}

void destroy_graph(void* graph) noexcept { delete static_cast<std::vector<Work>*>(graph); }

void run_body(StreamView stream, std::span<const std::byte> captured, std::function<void()> body) {
  const Lock lock(software_gpu::device_lock());
  const char* const name = body.target_type().name();
  add(native(stream), &Launches::kernels, software_gpu::kernel(name, captured, std::move(body)));
}

}  // namespace comm::cuda
