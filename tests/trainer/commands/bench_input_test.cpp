#include "trainer/commands/bench_input.h"

#include <gmock/gmock.h>

#include "comm/communicator_local.h"
#include "tests/trainer/commands/command_fixture.h"

namespace trainer {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(BenchInput, CountsTheImagesOfAllRanks) {
  const Config config = small_config({"train.batch=4", "runtime.threads=1"});
  comm::run_local(2, [&](comm::Communicator& communicator) {
    comm::Progress progress;
    const InputSpeed speed = run_input_bench(config, 3, communicator, progress);
    EXPECT_EQ(speed.batch, 4);
    EXPECT_EQ(speed.ranks, 2);
    EXPECT_EQ(speed.threads, 1);
    EXPECT_EQ(speed.steps, 3);
    EXPECT_GT(speed.images_per_second, 0);
    EXPECT_GT(speed.images_per_core_second, 0);
    EXPECT_GT(speed.packed_images_per_second, 0);
    EXPECT_GT(speed.packed_images_per_core_second, 0);
  });
}

TEST(BenchInput, DecodesWithItsOwnThreads) {
  const auto communicator = comm::single_communicator();
  comm::Progress progress;
  const Config config = small_config({"train.batch=2", "runtime.loader_threads=3"});
  EXPECT_EQ(run_input_bench(config, 1, *communicator, progress).threads, 3);
}

TEST(BenchInput, TextAndJsonSayTheSame) {
  InputSpeed speed{"name", 8, 1, 2, 5, 120.5, 70.25, 240.5, 130.25};
  const rapidjson::Document json = parse_json(input_json(speed));
  EXPECT_EQ(json["images_per_second"].GetDouble(), 120.5);
  EXPECT_EQ(json["images_per_core_second"].GetDouble(), 70.25);
  EXPECT_EQ(json["threads"].GetInt(), 2);
  EXPECT_THAT(input_text(speed), HasSubstr("5 steps of 8 images, 1 rank x 2 threads"));
  EXPECT_EQ(json["packed_images_per_second"].GetDouble(), 240.5);
  EXPECT_EQ(json["packed_images_per_core_second"].GetDouble(), 130.25);
  EXPECT_THAT(input_text(speed), HasSubstr("input: 120.5 images/s; 70.2"));
  EXPECT_THAT(input_text(speed),
              HasSubstr("for a GPU, which resizes itself: 240.5 images/s; 130.2"));
  speed.images_per_second = 0;  // the run's device is a GPU
  EXPECT_THAT(input_text(speed), Not(HasSubstr("for a CPU")));
}

TEST(BenchInput, NeedsTheData) {
  const auto communicator = comm::single_communicator();
  comm::Progress progress;
  Config config = small_config();
  config.data.format = DataFormat::kCoco;
  config.data.splits["train"] = {.images = "absent", .annotations = "absent.json"};
  EXPECT_THROW(run_input_bench(config, 1, *communicator, progress), comm::Error);
}

}  // namespace
}  // namespace trainer
