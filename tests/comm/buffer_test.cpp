#include "comm/buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "comm/build.h"
#include "comm/parallel.h"
#include "comm/work_graph.h"

namespace comm {
namespace {

static_assert(!std::is_constructible_v<StreamView, int>);
static_assert(!std::is_constructible_v<StreamView, std::nullptr_t>);
static_assert(!std::is_copy_constructible_v<Buffer> && !std::is_copy_constructible_v<Stream>);

TEST(Buffer, IsAlignedAndZeroedOnRequest) {
  for (const std::size_t size : {1ul, 63ul, 4096ul, (4ul << 20) - 1, (4ul << 20) + 5}) {
    const Buffer buffer(Device{}, size, Fill::kZero);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.bytes().data()) % Buffer::kAlignment, 0u);
    EXPECT_EQ(buffer.bytes().size(), size);
    EXPECT_TRUE(std::ranges::all_of(buffer.bytes(), [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST(Buffer, CountsAllocations) {
  const auto count = allocation_count(), bytes = allocated_bytes(DeviceKind::kCpu);
  {
    const Buffer a(Device{}, 1000), b(Device{}, 24), nothing(Device{}, 0);
    EXPECT_EQ(allocation_count(), count + 2);
    EXPECT_EQ(allocated_bytes(DeviceKind::kCpu), bytes + 1024);
    EXPECT_GE(peak_allocated_bytes(DeviceKind::kCpu), bytes + 1024);
  }
  EXPECT_EQ(allocation_count(), count + 2);
  EXPECT_EQ(allocated_bytes(DeviceKind::kCpu), bytes);
}

TEST(Buffer, MovesWithoutCopying) {
  const auto bytes = allocated_bytes(DeviceKind::kCpu);
  {
    Buffer a(Device{}, 256);
    const auto* data = a.bytes().data();
    Buffer b(std::move(a));
    EXPECT_EQ(b.bytes().data(), data);
    Buffer c(Device{}, 8);
    c = std::move(b);
    EXPECT_EQ(c.bytes().data(), data);
    EXPECT_EQ(c.size_bytes(), 256u);
  }
  EXPECT_EQ(allocated_bytes(DeviceKind::kCpu), bytes);
}

TEST(Buffer, ViewsStayInside) {
  const Buffer buffer(Device{}, 100);
  EXPECT_EQ(buffer.as<float>().size(), 25u);
  EXPECT_EQ(buffer.as<float>(96, 1).data(), reinterpret_cast<float*>(buffer.bytes().data() + 96));
  EXPECT_TRUE(buffer.as<float>(100, 0).empty());
  EXPECT_THROW(buffer.as<float>(96, 2), Error);
  EXPECT_THROW(buffer.as<float>(104, 0), Error);
  EXPECT_THROW(buffer.as<float>(2, 1), Error);
  EXPECT_THROW(buffer.as<float>(0, SIZE_MAX / 2), Error);  // a product that wraps
}

TEST(Buffer, TooLargeIsASystemLimitThatSaysHowMuch) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the address sanitizer ends the process on such a size";
#endif
  try {
    const Buffer buffer(Device{}, SIZE_MAX / 4);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kSystemLimit);
    EXPECT_NE(std::string(error.what()).find(std::to_string(SIZE_MAX / 4)), std::string::npos);
  }
  EXPECT_THROW(Buffer(Device{}, SIZE_MAX), Error);
}

TEST(Buffer, CopiesAndClears) {
  const Stream stream{Device{}};
  const Buffer a(Device{}, 64), b(Device{}, 64, Fill::kZero);
  std::ranges::fill(a.bytes(), std::byte{7});
  copy_bytes(stream, b.bytes(), a.bytes());
  EXPECT_TRUE(std::ranges::equal(a.bytes(), b.bytes()));
  zero_bytes(stream, b.bytes().first(32));
  EXPECT_EQ(b.bytes()[31], std::byte{0});
  EXPECT_EQ(b.bytes()[32], std::byte{7});
  EXPECT_THROW(copy_bytes(stream, b.bytes(), a.bytes().first(3)), Error);
}

TEST(Buffer, ForTransferOfACpuIsAnOrdinaryOne) {
  const auto bytes = allocated_bytes(DeviceKind::kCpu);
  {
    const Buffer buffer = Buffer::for_transfer(Device{}, 100);
    EXPECT_EQ(buffer.device(), Device{});
    EXPECT_EQ(buffer.size_bytes(), 100u);
    EXPECT_EQ(allocated_bytes(DeviceKind::kCpu), bytes + 100);
    EXPECT_EQ(Buffer::for_transfer(Device{DeviceKind::kCuda, 0}, 0).size_bytes(), 0u);
  }
  EXPECT_EQ(allocated_bytes(DeviceKind::kCpu), bytes);
}

TEST(Stream, OfTheCpuRunsInline) {
  const Stream stream(Device{}, 3);
  const Event event{Device{}};
  stream.view().record(event);
  stream.view().wait(event);
  stream.view().synchronize();
  EXPECT_TRUE(event.done());
  event.synchronize();
  EXPECT_EQ(stream.view().num_threads(), 3);
  EXPECT_THROW(Stream(Device{}, 0), Error);
}

TEST(Device, CudaWithoutCudaIsAClearError) {
  if (kHasCuda) GTEST_SKIP() << "this build has CUDA";
  try {
    const Buffer buffer(Device{DeviceKind::kCuda, 0}, 16);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kDevice);
    EXPECT_NE(std::string(error.what()).find("launch/build cuda"), std::string::npos);
  }
  EXPECT_THROW(Stream(Device{DeviceKind::kCuda, 0}), Error);
  EXPECT_THROW(Buffer::for_transfer(Device{DeviceKind::kCuda, 0}, 16), Error);
  int handle = 0;
  const StreamView nowhere(Device{DeviceKind::kCuda, 0}, 1, &handle);
  const auto launch = [&] { parallel_for(nowhere, 1, [](std::int64_t) {}); };
  EXPECT_THROW(launch(), Error);  // a kernel of a build without nvcc
  EXPECT_THROW(WorkGraph(nowhere, launch), Error);
}

TEST(WorkGraph, IsOfCudaStreams) {
  const Stream stream{Device{}};
  EXPECT_THROW(WorkGraph(stream, [] {}), Error);
}

}  // namespace
}  // namespace comm
