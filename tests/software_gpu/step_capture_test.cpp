// Steps that are recorded whole and launched again: the bits of steps that are launched kernel by
// kernel, whatever changes from one to the next.
#include "trainer/step_capture.h"

#include <gtest/gtest.h>

#include "comm/communicator_local.h"
#include "comm/parallel.h"
#include "tests/software_gpu/queue.h"
#include "tests/trainer/commands/command_fixture.h"
#include "tests/trainer/damaged_dataset.h"
#include "trainer/evaluation.h"
#include "trainer/trainer.h"
#include "trainer/weights.h"

namespace trainer {
namespace {

constexpr comm::Device kGpu{comm::DeviceKind::kCuda, 0};

software_gpu::Launches launches() {
  const std::lock_guard lock(software_gpu::device_lock());
  return software_gpu::launches();
}

// Images of two classes that lie or stand, 24 each.
class Pictures {
 public:
  Pictures() {
    std::uint8_t value = 0;
    for (const std::string folder : {"a", "b"}) {
      std::filesystem::create_directories(root_ / folder);
      for (int i = 0; i < 24; ++i) {
        Image image{i % 2 ? 12 : 18, i % 2 ? 18 : 12};
        image.rgb.resize(12 * 18 * 3);
        for (std::uint8_t& channel : image.rgb)
          channel = value = static_cast<std::uint8_t>(value * 5 + 13 + i % 7);
        write_png(root_ / (folder + "/" + std::to_string(i) + ".png"), image);
      }
    }
  }
  // batch 6 in `num_micro_batches`, a learning rate and a lambda of its own for each of 8 steps, of
  // which the 1st, 3rd, 6th and 8th are measured: some steps of either kind are launched again.
  Config config(int num_micro_batches, const std::vector<std::string>& more) const {
    std::vector<std::string> overrides{
        "data.root=" + (root_ / "").string(),
        "train.micro_batch=" + std::to_string(6 / num_micro_batches)};
    overrides.insert(overrides.end(), more.begin(), more.end());
    return parse_config(
               "model: {name: cnn, dropout: 0.3}\n"
               "data: {format: folders, train: {images: .}, val: {images: .}, size: [8, 12]}\n"
               "train: {batch: 6, steps: 8}\n"
               "optimizer: {name: sgd, lr: 0.02, momentum: 0.9}\n"
               "regularization: {l2: 1.0e-3, schedule: linear, end_factor: 0.1}\n"
               "schedule: {type: cosine, warmup_steps: 3}\n"
               "log: {every_steps: 3}\n"
               "runtime: {device: cuda, threads: 1, loader_threads: 1}\n",
               "pictures.yaml", overrides)
        .config;
  }

 private:
  ScratchFolder folder_;
  std::filesystem::path root_ = folder_ / "pictures";
};

using OpenedDataset = std::unique_ptr<Dataset>;
OpenedDataset open(const Config& config) {
  OpenOptions options;
  options.fields = fields_of(config.model.name);
  return open_dataset(config.data, options);
}

// A run of one rank without folder, log and checkpoints.
class ShortRun {
 public:
  explicit ShortRun(const Config& config, OpenedDataset dataset = nullptr)
      : config_(config),
        dataset_(dataset ? std::move(dataset) : open(config)),
        network_(config_, num_classes_for(config_, *dataset_), dataset_->channels(), stream_, {}) {
    initialize(network_.storage(), 1);
    const std::int64_t num_micro_batches = config_.train.batch / config_.train.micro_batch;
    const OptimizerSetup setup{config_.optimizer, config_.regularization, config_.clip,
                               config_.ema,       num_micro_batches,      true};
    optimizer_.emplace(network_.storage(), *communicator_, stream_, setup);
    optimizer_->start_ema();
    LoaderOptions options;
    options.fields = fields_of(config_.model.name);
    options.batch = config_.train.batch;
    options.micro_batch = config_.train.micro_batch;
    options.device = kGpu;
    loader_ = Loader::train(*dataset_, config_.data, options);
    const RunLength length{8, 8.0};
    trainer_.emplace(Trainer::Parts{config_, network_, *optimizer_, *loader_, *communicator_,
                                    progress_, length});
  }

  ~ShortRun() { stream_.view().synchronize(); }

  void step() {
    StepVotes votes;
    add(trainer_->step(index_++, votes));
  }
  void evaluate_now() {
    add(trainer_->flush());
    optimizer_->finish();
    const Evaluation found =
        evaluate({config_, network_, *dataset_, *communicator_, progress_, 1, -2 - index_});
    for (const auto& [name, value] : found.metrics.flat()) seen_.push_back(value);
  }
  // All that the host was told, then weights and state of the optimizer.
  std::vector<double> outcome() {
    add(trainer_->flush());
    const HostMirror weights(network_.storage().parameters);
    weights.fetch(stream_);
    stream_.view().synchronize();
    std::vector<double> all = seen_;
    for (const float value : weights.as<float>()) all.push_back(value);
    optimizer_->for_each_state(
        [&](const std::string&, const std::string&, std::int64_t, std::int64_t,
            std::span<float> values) { all.insert(all.end(), values.begin(), values.end()); });
    return all;
  }
  Network& network() { return network_; }

 private:
  void add(const std::vector<StepReport>& reports) {
    for (const StepReport& report : reports) {
      seen_.insert(seen_.end(), {static_cast<double>(report.step), report.loss, report.lr});
      for (const NamedValue& loss : report.losses) seen_.push_back(loss.value);
      if (!report.logged) continue;
      seen_.insert(seen_.end(), {report.grad_norm, report.l2_penalty});
      for (const NamedValue& value : report.extra) seen_.push_back(value.value);
    }
  }

  Config config_;
  comm::Stream stream_{kGpu};
  OpenedDataset dataset_;
  Network network_;
  std::unique_ptr<comm::Communicator> communicator_ = comm::single_communicator();
  comm::Progress progress_;
  std::optional<ShardedOptimizer> optimizer_;
  std::unique_ptr<Loader> loader_;
  std::optional<Trainer> trainer_;
  std::int64_t index_ = 0;
  std::vector<double> seen_;
};

struct Case {
  std::string name;
  int num_micro_batches;
  std::vector<std::string> more;
  bool whole = true;  // steps are recorded
  friend std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }
};

class CapturedSteps : public ::testing::TestWithParam<Case> {};

TEST_P(CapturedSteps, HaveTheBitsOfStepsLaunchedKernelByKernel) {
  const Pictures pictures;
  const Config config = pictures.config(GetParam().num_micro_batches, GetParam().more);
  const auto outcome = [](Config used, Capture capture) {
    used.runtime.capture = capture;
    ShortRun run(used);
    for (int i = 0; i < 5; ++i) run.step();
    run.evaluate_now();
    for (int i = 5; i < 8; ++i) run.step();
    return run.outcome();
  };
  const auto before = launches();
  const std::vector<double> plain = outcome(config, Capture::kNone);
  EXPECT_EQ(launches().graphs, before.graphs);
  const std::vector<double> captured = outcome(config, Capture::kAuto);
  EXPECT_GT(launches().graphs, before.graphs);
  ASSERT_EQ(plain.size(), captured.size());
  for (std::size_t i = 0; i < plain.size(); ++i) {
    ASSERT_TRUE(std::isfinite(plain[i])) << "at " << i;
    ASSERT_EQ(plain[i], captured[i]) << "at " << i;
  }
}

// Steps from the fourth on: a graph a micro-batch and equally many copies; no kernel but, perhaps,
// the one that writes the inputs.
TEST_P(CapturedSteps, LaunchNothingButTheirGraphs) {
  const Pictures pictures;
  Config config = pictures.config(GetParam().num_micro_batches, GetParam().more);
  config.log.every_steps = 100;
  if (config.data.size.size() > 1) GTEST_SKIP() << "a size is met when its images are drawn";
  ShortRun run(config);
  for (int i = 0; i < 3; ++i) run.step();
  std::vector<std::int64_t> copies;
  for (int i = 3; i < 7; ++i) {
    const auto before = launches();
    const std::int64_t allocations = comm::allocation_count();
    run.step();
    const auto after = launches();
    EXPECT_EQ(comm::allocation_count(), allocations);
    if (!GetParam().whole) {
      EXPECT_GT(after.kernels, before.kernels + 10);
      continue;
    }
    EXPECT_LE(after.kernels, before.kernels + GetParam().num_micro_batches);
    EXPECT_EQ(after.graphs, before.graphs + GetParam().num_micro_batches);
    copies.push_back(after.copies - before.copies);
    EXPECT_EQ(copies.back(), copies.front());
  }
}

const std::string kAdamw = "optimizer={name: adamw, lr: 0.001}";
const std::string kFcn = "model={name: fcn, backbone: resnet18, head: 32s}";
const std::string kTwoSizes =
    "data={format: shapes, train: {limit: 12}, val: {limit: 4}, size: [[32, 32], [32, 64]]}";
INSTANTIATE_TEST_SUITE_P(
    Runs, CapturedSteps,
    ::testing::Values(
        Case{"Sgd", 1, {}}, Case{"SgdOfThree", 3, {"log.every_steps=2"}},
        Case{"Adamw", 1, {kAdamw}},
        Case{"AdamwOfThreeClipped", 3, {kAdamw, "clip.norm=0.3", "ema.decay=0.9"}},
        Case{"SgdClippedEveryStepMeasured", 1, {"clip.norm=0.3", "regularization.mode=loss"}},
        Case{"Lars", 3, {"optimizer={name: lars, lr: 0.02}"}, false},
        Case{"TwoSizes", 2, {kFcn, kTwoSizes, "train={batch: 2, micro_batch: 1, steps: 8}"}}),
    [](const auto& info) { return info.param.name; });

// In order, the 27th sample is of the fifth step's second micro-batch of three.
TEST(CapturedStep, EndsWhereAMicroBatchCannotBeRead) {
  const Pictures pictures;
  const Config config = pictures.config(3, {"data.shuffle=false"});
  ShortRun run(config, std::make_unique<testing::DamagedDataset>(open(config), 26));
  for (int i = 0; i < 4; ++i) run.step();
  try {
    for (int i = 4; i < 6; ++i) run.step();
    FAIL() << "a damaged sample was read";
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.code(), comm::ExitCode::kData) << error.what();
  }
}

struct AddOne {
  float* x;
  RIDGELINE_HD void operator()(std::int64_t i) const { x[i] += 1; }
};

class Recorded : public ::testing::Test {
 protected:
  void TearDown() override { stream_.view().synchronize(); }
  // Calls of `work`, which is asked for a kind `times` times.
  int calls(StepCapture& capture, const StepCapture::Kind& kind, int times) {
    int calls = 0;
    for (int i = 0; i < times; ++i) {
      const int before = calls;
      const bool called = capture.launch(kind, [&] {
        ++calls;
        comm::parallel_for(stream_, 1, AddOne{x_.as<float>().data()});
      });
      EXPECT_EQ(called, calls > before);
    }
    return calls;
  }
  float value() {
    float value = 0;
    comm::copy_bytes(stream_, std::as_writable_bytes(std::span(&value, 1)), x_.bytes());
    return value;
  }
  comm::Stream stream_{kGpu};
  comm::Buffer x_{kGpu, sizeof(float), comm::Fill::kZero};
};

TEST_F(Recorded, EachKindIsLaunchedOnceThenRecordedOnce) {
  StepCapture capture(stream_, true);
  EXPECT_EQ(calls(capture, {nullptr, 0, false, true}, 5), 2);
  EXPECT_EQ(calls(capture, {nullptr, 1, false, true}, 1), 1);
  EXPECT_EQ(calls(capture, {nullptr, 0, true, true}, 3), 2);
  EXPECT_EQ(calls(capture, {nullptr, 0, false, false}, 2), 2);
  EXPECT_EQ(calls(capture, {nullptr, 0, false, true}, 4), 0);
  EXPECT_EQ(value(), 15);
}

TEST_F(Recorded, CanBeOff) {
  StepCapture capture(stream_, false);
  EXPECT_EQ(calls(capture, {nullptr, 0, false, true}, 5), 5);
  EXPECT_EQ(value(), 5);
}

TEST_F(Recorded, WorkThatWaitsIsRefusedAndAskedForAgain) {
  StepCapture capture(stream_, true);
  const StepCapture::Kind kind{nullptr, 0, false, true};
  capture.launch(kind, [] {});
  EXPECT_THROW(capture.launch(kind, [&] { stream_.view().synchronize(); }), comm::Error);
  EXPECT_EQ(calls(capture, kind, 3), 1);
  EXPECT_EQ(value(), 3);
}

}  // namespace
}  // namespace trainer
