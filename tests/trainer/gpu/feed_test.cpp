// Batches on their way to a GPU: what the network reads there is what a CPU would read.
#include "trainer/feed.h"

#include <gtest/gtest.h>

#include <array>

#include "comm/bf16.h"
#include "comm/gpu.h"
#include "models/graph/reorder.h"
#include "tests/trainer/commands/command_fixture.h"
#include "trainer/network.h"

namespace trainer {
namespace {

constexpr comm::Device kGpu = {comm::DeviceKind::kCuda, 0};

std::vector<float> host_copy(comm::StreamView stream, const models::Tensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.count()));
  comm::copy_bytes(stream, std::as_writable_bytes(std::span(values)),
                   {tensor.data, values.size() * sizeof(float)});
  stream.synchronize();
  return values;
}

// The image of an executable as NCHW fp32.
std::vector<float> image_of(const models::Executable& executable, comm::StreamView stream) {
  const models::Tensor image = executable.input("image");
  models::Tensor plain{nullptr, models::Type::kF32, image.shape};
  const comm::Buffer memory(stream.device(), static_cast<std::size_t>(plain.physical_bytes()));
  plain.data = memory.bytes().data();
  models::reorder(stream, image, plain, false);
  return host_copy(stream, plain);
}

class FeedToGpu : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (comm::gpu_libraries().runtime == 0 || comm::survey_gpus().gpus.empty()) {
      GTEST_SKIP() << "no GPU";
    }
  }
  LoaderOptions options(comm::Device device) const {
    LoaderOptions options{.fields = fields_of(ModelName::kRetinanet), .seed = 3};
    options.batch = options.micro_batch = 2;
    options.threads = 2;
    options.device = device;
    return options;
  }
};

TEST_P(FeedToGpu, InputsAreThoseOfACpu) {
  const bool narrow = std::string(GetParam()) == "bf16";
  const Config config = small_config({"train.batch=2", "train.micro_batch=2",
                                      "runtime.precision=" + std::string(GetParam()),
                                      "data.size=[[64,64],[32,96]]", "data.scale=[0.5,1.8]",
                                      "data.flip=0.5", "data.vflip=0.5", "data.photometric=0.4"});
  const auto data = open_dataset(config.data, {.fields = fields_of(ModelName::kRetinanet)});
  const auto on_host = Loader::train(*data, config.data, options({}));
  const auto loader = Loader::train(*data, config.data, options(kGpu));
  EXPECT_GT(loader->packed_bytes(), 0u);
  const comm::Stream stream(kGpu);
  Network network(config, num_classes_for(config, *data), 3, stream, {1, true});
  Feeder feeder(*loader, stream);
  std::array<int, 2> seen{};
  for (int i = 0; i < 10; ++i) {
    Batch& batch = *feeder.next();
    Batch& expected = *on_host->next();
    ++seen.at(static_cast<std::size_t>(batch.bucket));
    const auto& executable = network.training(static_cast<std::size_t>(batch.bucket));
    const models::Tensor input = executable.input("image");
    EXPECT_EQ(input.type, narrow ? models::Type::kBF16 : models::Type::kF32);
    EXPECT_EQ(input.channel_block, narrow ? 3 : 1);
    const std::int64_t allocations = comm::allocation_count();
    feeder.feed(executable, batch);
    EXPECT_EQ(comm::allocation_count(), allocations) << "in a step";
    const std::vector<float> got = image_of(executable, stream);
    const auto values = expected.image_values();
    ASSERT_EQ(got.size(), values.size());
    for (std::size_t k = 0; k < got.size(); ++k) {
      const float value = narrow ? float{comm::Bf16(values[k])} : values[k];
      // A GPU may fuse a product and a sum.
      ASSERT_NEAR(got[k], value, (narrow ? 1.0 / 128 : 1e-6) * std::max(1.0f, std::abs(value)));
    }
    EXPECT_EQ(host_copy(stream, executable.input("boxes")),
              std::vector<float>(expected.boxes.begin(), expected.boxes.end()));
  }
  EXPECT_GT(seen[0] * seen[1], 0) << "both sizes";
}

// The ring of the host is used again while the GPU is behind.
TEST_P(FeedToGpu, BatchesMayWaitForTheGpu) {
  const Config config = small_config(
      {"train.batch=2", "train.micro_batch=2", "runtime.precision=" + std::string(GetParam())});
  const auto data = open_dataset(config.data, {.fields = fields_of(ModelName::kRetinanet)});
  LoaderOptions o = options(kGpu);
  o.prefetch = 1;
  const auto loader = Loader::train(*data, config.data, o), again = loader->again(0);
  const comm::Stream stream(kGpu), other(kGpu);
  Network network(config, num_classes_for(config, *data), 3, stream, {1, true});
  models::Executable& executable = network.training(0);
  Feeder feeder(*loader, stream), one_by_one(*again, other);
  for (int i = 0; i < 6; ++i) feeder.feed(executable, *feeder.next());
  const std::vector<float> got = image_of(executable, stream);
  for (int i = 0; i < 6; ++i) {
    one_by_one.feed(executable, *one_by_one.next());
    other.view().synchronize();
  }
  EXPECT_EQ(got, image_of(executable, other));
}

INSTANTIATE_TEST_SUITE_P(Precisions, FeedToGpu, testing::Values("fp32", "bf16"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace trainer
