#include "trainer/optim/host_mirror.h"

#include <gtest/gtest.h>

#include "comm/gpu.h"
#include "trainer/optim/upload_ring.h"

namespace trainer {
namespace {

// The CPU, and a GPU where the program has one.
std::vector<comm::Device> devices() {
  std::vector<comm::Device> all{{}};
  if (comm::gpu_libraries().runtime != 0 && !comm::survey_gpus().gpus.empty()) {
    all.push_back({comm::DeviceKind::kCuda, 0});
  }
  return all;
}

TEST(HostMirror, IsTheMemoryItselfOnACpu) {
  const comm::Buffer buffer(comm::Device{}, 64);
  const HostMirror mirror(buffer);
  EXPECT_FALSE(mirror.is_copy());
  EXPECT_EQ(mirror.bytes().data(), buffer.bytes().data());
  EXPECT_TRUE(HostMirror().bytes().empty());
}

TEST(HostMirror, BringsBackWhatItStored) {
  for (const comm::Device device : devices()) {
    const comm::Stream stream(device);
    const comm::Buffer buffer(device, 4 * sizeof(float), comm::Fill::kZero);
    const HostMirror mirror(buffer), other(buffer);
    std::ranges::fill(mirror.as<float>(), 2.0f);
    mirror.store(stream);
    stream.view().synchronize();
    std::ranges::fill(mirror.as<float>(), 3.0f);
    other.fetch(stream, sizeof(float), 2 * sizeof(float));
    stream.view().synchronize();
    EXPECT_EQ(other.as<float>()[1], other.is_copy() ? 2.0f : 3.0f);
    EXPECT_EQ(other.as<float>()[2], other.is_copy() ? 2.0f : 3.0f);
  }
}

// The host writes the next value before the device has read the one before.
TEST(UploadRing, EveryStepReadsItsOwnValue) {
  constexpr int kSteps = 4;
  for (const comm::Device device : devices()) {
    const comm::Stream stream(device);
    UploadRing ring(stream, sizeof(std::int64_t));
    const comm::Buffer seen(device, kSteps * sizeof(std::int64_t));
    for (std::int64_t step = 0; step < kSteps; ++step) {
      *reinterpret_cast<std::int64_t*>(ring.next().data()) = step + 10;
      ring.send();
      comm::copy_bytes(
          stream, seen.bytes().subspan(static_cast<std::size_t>(step) * sizeof(step), sizeof(step)),
          ring.memory().bytes());
    }
    const HostMirror mirror(seen);
    mirror.fetch(stream);
    stream.view().synchronize();
    for (std::int64_t step = 0; step < kSteps; ++step) {
      EXPECT_EQ(mirror.as<std::int64_t>()[static_cast<std::size_t>(step)], step + 10);
    }
  }
}

}  // namespace
}  // namespace trainer
