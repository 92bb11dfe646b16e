// data.on_error: skip over ranks: the limit is that of the run.
#include <gmock/gmock.h>

#include <atomic>
#include <filesystem>

#include "comm/communicator_local.h"
#include "tests/trainer/commands/command_fixture.h"
#include "tests/trainer/damaged_dataset.h"
#include "trainer/training_run.h"

namespace trainer {
namespace {

// How a run of one epoch on two ranks ends: on how many with 65.
int num_refused(const ScratchFolder& folder, int skip_limit) {
  const comm::StopSignals signals;
  std::atomic<int> refused = 0;
  comm::run_local(2, [&](comm::Communicator& communicator) {
    comm::Progress progress;
    TrainingOptions options;
    options.out = folder / ("run-" + std::to_string(skip_limit));
    options.trial = true;
    options.open = [](const DataConfig& config, const OpenOptions& open) {
      return std::make_unique<testing::UnreadableDataset>(open_dataset(config, open));
    };
    const LoadedConfig config = parse_config(
        "model: {name: retinanet, backbone: resnet18}\n"
        "data: {format: shapes, train: {limit: 6}, size: [64, 64], max_boxes: 8, shuffle: false,\n"
        "       on_error: skip, skip_limit: " +
            std::to_string(skip_limit) +
            "}\n"
            "train: {batch: 6, micro_batch: 1, steps: 1}\n"
            "runtime: {threads: 1, loader_threads: 1}\n",
        "skip.yaml", {});
    try {
      TrainingRun(config, options, communicator, progress, signals).run();
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.code(), comm::ExitCode::kData) << error.what();
      ++refused;
    }
  });
  return refused;
}

TEST(LeftOut, TheLimitIsThatOfAllRanks) {
  const ScratchFolder folder;
  EXPECT_EQ(num_refused(folder, 2), 0);
  EXPECT_EQ(num_refused(folder, 1), 2);
}

}  // namespace
}  // namespace trainer
