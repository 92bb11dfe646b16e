#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>

#include "comm/buffer.h"
#include "comm/gpu.h"
#include "comm/parallel.h"
#include "comm/work_graph.h"
#include "tests/software_gpu/queue.h"

namespace comm {
namespace {

constexpr Device kGpu{DeviceKind::kCuda, 0};
constexpr std::size_t kCount = 100;

struct Store {
  float value;
  float* to;
  RIDGELINE_HD void operator()(std::int64_t i) const { to[i] = value; }
};
struct AddFrom {
  const float* from;
  float* to;
  RIDGELINE_HD void operator()(std::int64_t i) const { to[i] += from[i]; }
};

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kDevice);
    return error.what();
  }
  return "";
}

class SoftwareGpu : public testing::Test {
 protected:
  void TearDown() override { stream_.view().synchronize(); }  // or releasing memory is an error
  void store(float value) { parallel_for(stream_, kCount, Store{value, device_floats()}); }
  void fetch() { copy_bytes(stream_, host_.bytes(), device_.bytes()); }
  float* device_floats() const { return device_.as<float>().data(); }
  std::span<float> host() const { return host_.as<float>(); }
  // What the device holds, by a copy that waits.
  std::vector<float> read() const {
    std::vector<float> values(kCount);
    copy_bytes(stream_, std::as_writable_bytes(std::span(values)), device_.bytes());
    return values;
  }

  Stream stream_{kGpu};
  Buffer device_{kGpu, kCount * sizeof(float)};
  Buffer host_ = Buffer::for_transfer(kGpu, kCount * sizeof(float));
};
using SoftwareGpuDeathTest = SoftwareGpu;

TEST_F(SoftwareGpuDeathTest, HostAccessEndsTheProcess) {
  const volatile float* const value = device_floats();
  EXPECT_DEATH(static_cast<void>(value[3]), "the host touched device memory at byte 12 of .* 400");
  store(1);
  stream_.view().synchronize();
  EXPECT_DEATH(static_cast<void>(value[3]), "the host touched device memory at byte 12 of .* 400");
}

TEST_F(SoftwareGpuDeathTest, AKernelThatWritesBehindItsMemoryEndsTheProcess) {
  const auto run = [&](std::int64_t n, float* to) {
    parallel_for(stream_, n, Store{1, to});
    stream_.view().synchronize();
  };
  EXPECT_DEATH(run(200, device_floats()), "Store.* touched device memory that is not allocated");
  EXPECT_DEATH(run(1, nullptr), "");
}

TEST_F(SoftwareGpuDeathTest, LargeMemoryIsGuardedToo) {
  constexpr std::size_t kMany = 3 << 20;
  const Buffer large(kGpu, kMany * sizeof(float));
  const volatile float* const value = large.as<float>().data();
  EXPECT_DEATH(static_cast<void>(value[kMany / 2]), "the host touched device memory");
  const auto write_behind = [&] {
    parallel_for(stream_, kMany + 1, Store{1, large.as<float>().data()});
    stream_.view().synchronize();
  };
  EXPECT_DEATH(write_behind(), "somebody touched device memory");
}

TEST_F(SoftwareGpuDeathTest, MemoryThatQueuedWorkUsesIsNotReleased) {
  const auto launch_and_release = [&](Buffer& memory) {
    store(1);
    fetch();
    memory = Buffer();
  };
  EXPECT_DEATH(launch_and_release(device_), "400 bytes are released, which .* uses: .*Store");
  EXPECT_DEATH(launch_and_release(host_), "released, which queued work still uses: a copy");
}

TEST_F(SoftwareGpu, AnErrorMayReleaseWhatIsInUse) {
  EXPECT_THROW(
      {
        const Buffer memory(kGpu, 400);
        parallel_for(stream_, kCount, Store{1, memory.as<float>().data()});
        fail(ExitCode::kDiverged, "the loss");
      },
      Error);
}

TEST_F(SoftwareGpu, FreshMemoryIsNotANumber) {
  for (const float value : read()) EXPECT_TRUE(std::isnan(value));
  const Buffer zeros(kGpu, kCount * sizeof(float), Fill::kZero);
  std::vector<float> values(kCount, 1);
  copy_bytes(stream_, std::as_writable_bytes(std::span(values)), zeros.bytes());
  EXPECT_EQ(values, std::vector<float>(kCount, 0));
}

TEST_F(SoftwareGpu, NothingHasHappenedBeforeSomebodyWaits) {
  std::ranges::fill(host(), -1.0f);
  store(5);
  fetch();
  EXPECT_EQ(host()[0], -1);
  stream_.view().synchronize();
  EXPECT_EQ(host()[0], 5);
  EXPECT_EQ(host()[kCount - 1], 5);
}

TEST_F(SoftwareGpu, PageLockedSourcesAreReadLateAndOthersAtOnce) {
  std::ranges::fill(host(), 1.0f);
  copy_bytes(stream_, device_.bytes(), host_.bytes());
  std::ranges::fill(host(), 2.0f);
  EXPECT_EQ(read(), std::vector<float>(kCount, 2));
  std::vector<float> ordinary(kCount, 3);
  copy_bytes(stream_, device_.bytes(), std::as_bytes(std::span(ordinary)));
  std::ranges::fill(ordinary, 4.0f);
  EXPECT_EQ(read(), std::vector<float>(kCount, 3));
}

TEST_F(SoftwareGpu, EventsOrderStreams) {
  const Stream other(kGpu);
  const Event event(kGpu);
  const Buffer sum(kGpu, kCount * sizeof(float), Fill::kZero);
  store(7);
  other.view().wait(event);  // never recorded: nothing to wait for
  stream_.view().record(event);
  store(8);  // behind the event
  other.view().wait(event);
  parallel_for(other, kCount, AddFrom{device_floats(), sum.as<float>().data()});
  copy_bytes(other, host_.bytes(), sum.bytes());
  other.view().synchronize();
  EXPECT_EQ(host()[0], 7);
  EXPECT_EQ(read()[0], 8);
}

TEST_F(SoftwareGpu, WithoutAnEventAnotherStreamRunsFirst) {
  const Stream other(kGpu);
  store(7);
  stream_.view().synchronize();
  store(8);
  copy_bytes(other, host_.bytes(), device_.bytes());
  other.view().synchronize();
  EXPECT_EQ(host()[0], 7);
}

TEST_F(SoftwareGpu, AnEventIsDoneOnTheSecondLook) {
  const Event event(kGpu);
  EXPECT_TRUE(event.done());
  std::ranges::fill(host(), -1.0f);
  store(3);
  fetch();
  stream_.view().record(event);
  EXPECT_FALSE(event.done());
  EXPECT_EQ(host()[0], -1);
  EXPECT_TRUE(event.done());
  EXPECT_EQ(host()[0], 3);
  store(4);
  fetch();
  stream_.view().record(event);
  event.synchronize();
  EXPECT_EQ(host()[0], 4);
}

TEST_F(SoftwareGpu, PointersToTheHostAreRefused) {
  std::vector<float> ordinary(kCount);
  EXPECT_NE(error_of([&] {
              parallel_for(stream_, kCount, AddFrom{ordinary.data(), device_floats()});
            })
                .find("illegal memory access: comm::without_nvcc::ForLoop<comm::(anonymous "
                      "namespace)::AddFrom>"),
            std::string::npos);
  float local = 0;
  EXPECT_NE(error_of([&] { parallel_for(stream_, 1, [&](std::int64_t) { local = 1; }); }), "");
  parallel_for(stream_, kCount, Store{2, host().data()});  // page-locked: mapped into the device
  stream_.view().synchronize();
  EXPECT_EQ(host()[1], 2);
}

TEST_F(SoftwareGpu, SumsAreTheBitsOfTheHost) {
  const auto term = [](std::int64_t i) {
    return std::sin(static_cast<double>(i)) * std::pow(10.0, i % 13);
  };
  for (const std::int64_t n : {1, 1000, 1025, 100'003}) {
    const Buffer scratch(kGpu, static_cast<std::size_t>(num_reduce_blocks(n)) * sizeof(double));
    const Buffer out(kGpu, sizeof(double));
    parallel_reduce(stream_, n, term, scratch.as<double>(), out.as<double>());
    double sum = 0;
    copy_bytes(stream_, std::as_writable_bytes(std::span(&sum, 1)), out.bytes());
    EXPECT_EQ(sum, parallel_reduce(Stream(Device{}), n, term)) << n;
  }
}

TEST_F(SoftwareGpu, BlocksCoverEveryElementOnce) {
  const std::int64_t n = 1234;
  const Buffer visits(kGpu, n * sizeof(int), Fill::kZero);
  parallel_for_blocks(stream_, n, 100,
                      [v = visits.as<int>().data()](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t i = begin; i < end; ++i) ++v[i];
                      });
  std::vector<int> values(n);
  copy_bytes(stream_, std::as_writable_bytes(std::span(values)), visits.bytes());
  EXPECT_EQ(values, std::vector<int>(n, 1));
}

TEST_F(SoftwareGpu, TooMuchMemoryIsAnError) {
  EXPECT_NE(error_of([] { Buffer(kGpu, std::size_t{1} << 40); }).find("cuda:0 is out of memory"),
            std::string::npos);
  EXPECT_NE(error_of([] { Buffer(Device{DeviceKind::kCuda, 3}, 8); }), "");
  EXPECT_NE(error_of([&] {
              copy_bytes(stream_, device_.bytes(), {device_.bytes().data() + 4, 400});
            }),
            "");
}

TEST_F(SoftwareGpu, TransferMemoryIsHostMemoryAndCounted) {
  const auto count = allocation_count(), bytes = allocated_bytes(DeviceKind::kCpu);
  {
    Buffer memory = Buffer::for_transfer(kGpu, 1000);
    EXPECT_EQ(memory.device(), Device{});
    EXPECT_EQ(allocation_count(), count + 1);
    EXPECT_EQ(allocated_bytes(DeviceKind::kCpu), bytes + 1000);
    Buffer moved = std::move(memory);
    moved.bytes()[999] = std::byte{1};
    memory = Buffer::for_transfer(Device{}, 10);
    std::swap(memory, moved);
  }
  EXPECT_EQ(allocated_bytes(DeviceKind::kCpu), bytes);
}

TEST_F(SoftwareGpu, TheSurveyFindsIt) {
  const GpuSurvey survey = survey_gpus();
  ASSERT_EQ(survey.gpus.size(), 1u);
  EXPECT_EQ(survey.problem, "");
  EXPECT_EQ(survey.gpus[0].uuid.size(), 32u);
  EXPECT_GE(survey.driver, gpu_libraries().runtime);
  const std::int64_t free = free_gpu_bytes(survey.gpus[0]);
  const Buffer memory(kGpu, 1000);
  EXPECT_EQ(free_gpu_bytes(survey.gpus[0]), free - 1000);
}

TEST_F(SoftwareGpu, AGraphRepeatsItsCallsAndReadsMemoryAnew) {
  float rate = 10;
  const Buffer from(kGpu, kCount * sizeof(float), Fill::kZero);
  std::ranges::fill(host(), 1.0f);
  store(0);
  const WorkGraph graph(stream_, [&] {
    copy_bytes(stream_, from.bytes(), host_.bytes());
    parallel_for(stream_, kCount, AddFrom{from.as<float>().data(), device_floats()});
    parallel_for(stream_, kCount, [rate, x = device_floats()](std::int64_t i) { x[i] += rate; });
  });
  EXPECT_EQ(read()[5], 0);  // recorded, not run
  graph.launch(stream_);
  EXPECT_EQ(read()[5], 11);
  rate = 20;  // was captured by value
  std::ranges::fill(host(), 2.0f);
  graph.launch(stream_);
  graph.launch(stream_);
  EXPECT_EQ(read()[5], 11 + 2 * 12);
}

TEST_F(SoftwareGpu, CountsWhatAProgramLaunches) {
  const auto counted = [&](const std::function<void()>& action) {
    const software_gpu::Launches before = software_gpu::launches();
    action();
    const software_gpu::Launches after = software_gpu::launches();
    return std::array{after.kernels - before.kernels, after.copies - before.copies,
                      after.graphs - before.graphs};
  };
  using Counts = std::array<std::int64_t, 3>;
  std::optional<WorkGraph> graph;
  const auto work = [&] {
    store(1);
    store(2);
    zero_bytes(stream_, device_.bytes());
    fetch();
  };
  EXPECT_EQ(counted(work), (Counts{2, 2, 0}));
  EXPECT_EQ(counted([&] { graph.emplace(stream_, work); }), (Counts{0, 0, 0}));
  EXPECT_EQ(counted([&] { graph->launch(stream_); }), (Counts{0, 0, 1}));
  EXPECT_EQ(counted([&] { read(); }), (Counts{0, 1, 0}));
}

TEST_F(SoftwareGpu, WhatACaptureMayNotHoldIsRefusedAndSpoilsIt) {
  const auto capture = [&](const std::function<void()>& work) {
    return error_of([&] { const WorkGraph graph(stream_, work); });
  };
  std::vector<float> ordinary(kCount);
  const auto bytes = std::as_writable_bytes(std::span(ordinary));
  const Event event(kGpu);
  EXPECT_NE(capture([&] { stream_.view().synchronize(); }), "");
  EXPECT_NE(capture([&] { stream_.view().record(event); }), "");
  EXPECT_NE(capture([&] { copy_bytes(stream_, device_.bytes(), bytes); }), "");
  EXPECT_NE(capture([&] { copy_bytes(stream_, bytes, device_.bytes()); }), "");
  EXPECT_NE(capture([&] { const Buffer memory(kGpu, 8); }), "");
  EXPECT_NE(capture([&] { Buffer::for_transfer(kGpu, 8); }), "");
  EXPECT_NE(capture([&] { const WorkGraph inner(stream_, [] {}); }), "");
  const std::string hidden = capture([&] {
    try {
      stream_.view().synchronize();
    } catch (const Error&) {
    }
  });
  EXPECT_NE(hidden.find("spoilt by cudaStreamSynchronize"), std::string::npos) << hidden;
  EXPECT_THROW(WorkGraph(Stream(Device{}), [] {}), Error);
  store(6);  // the stream runs on
  EXPECT_EQ(read()[0], 6);
}

TEST_F(SoftwareGpuDeathTest, AGraphOfReleasedMemoryEndsTheProcess) {
  const WorkGraph graph(stream_, [&] { store(1); });
  device_ = Buffer();
  EXPECT_DEATH(graph.launch(stream_), "Store.* is launched on memory that was released");
}

}  // namespace
}  // namespace comm
