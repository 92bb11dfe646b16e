// data.on_error: skip over ranks: the limit is that of the run.
#include <gmock/gmock.h>

#include <atomic>
#include <filesystem>

#include "comm/communicator_local.h"
#include "tests/trainer/commands/command_fixture.h"
#include "trainer/data/sample_reader.h"
#include "trainer/training_run.h"

namespace trainer {
namespace {

// Samples 1 and 4 of six cannot be read: one for each of two ranks when they are not shuffled.
class Damaged final : public Dataset {
 public:
  explicit Damaged(std::unique_ptr<Dataset> whole) : Dataset(*whole), whole_(std::move(whole)) {}
  std::int64_t size() const override { return whole_->size(); }
  const Sample& sample(std::int64_t index) const override { return whole_->sample(index); }
  ShrunkImage image(std::int64_t index, const NeededSize& needed) const override {
    if (index == 1 || index == 4) throw SampleError(AnomalyKind::kUndecodable, "damaged");
    return whole_->image(index, needed);
  }
  CocoAnnotations ground_truth() const override { return whole_->ground_truth(); }

 private:
  std::unique_ptr<Dataset> whole_;
};

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
      return std::make_unique<Damaged>(open_dataset(config, open));
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
