// What an evaluation makes of images that cannot be read and of networks that have diverged: the
// same for every task on any number of ranks.
#include <gmock/gmock.h>

#include <algorithm>
#include <limits>
#include <mutex>

#include "comm/communicator_local.h"
#include "tests/trainer/commands/command_fixture.h"
#include "tests/trainer/damaged_dataset.h"
#include "trainer/data/metrics_json.h"
#include "trainer/data/shapes.h"
#include "trainer/data/subset.h"
#include "trainer/evaluation.h"
#include "trainer/feed.h"
#include "trainer/weights.h"

namespace trainer {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class EvaluationOf : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string task = GetParam();
    std::vector<std::string> overrides = {"data.train.limit=6", "data.on_error=skip",
                                          "data.skip_limit=2", "runtime.threads=1"};
    if (task == "detection") overrides.push_back("eval.score_threshold=0.001");
    if (task == "segmentation") {
      overrides.push_back("model={name: fcn, backbone: resnet18, head: 32s}");
    }
    if (task == "classification") {
      overrides.push_back("model={name: classifier, backbone: resnet18}");
      overrides.push_back("data={format: folders, root: " + (folder_ / "").string() +
                          ", train: {images: train}, size: [64, 64], on_error: skip, "
                          "skip_limit: 2}");
      for (const int i : {0, 1, 2, 3, 4, 5}) {
        const auto file =
            folder_ / ("train/" + std::string(i < 3 ? "a/" : "b/") + std::to_string(i) + ".png");
        std::filesystem::create_directories(file.parent_path());
        write_png(file, draw_shapes(1, i, 64, 64).image);
      }
    }
    config_ = small_config(overrides);
  }
  std::unique_ptr<Dataset> open() const {
    return open_dataset(config_.data, {.fields = fields_of(config_.model.name)});
  }
  // Of a fresh network, or of one whose parameters are no numbers. What every rank saw.
  struct Result {
    std::string metrics;
    std::vector<std::vector<std::int64_t>> left_out;
    std::vector<std::string> errors;
  };
  Result evaluate_on(int ranks, const Dataset& data, bool diverged = false) const {
    Result result;
    std::mutex mutex;
    comm::run_local(ranks, [&](comm::Communicator& communicator) {
      const comm::Stream stream(comm::Device{}, 1);
      Network network(config_, num_classes_for(config_, data), 3, stream, {ranks, false});
      initialize(network.storage(), 1);
      if (diverged) {
        std::ranges::fill(network.storage().parameters.as<float>(),
                          std::numeric_limits<float>::quiet_NaN());
      }
      comm::Progress progress;
      try {
        const Evaluation evaluation =
            evaluate({config_, network, data, communicator, progress, 1, -1});
        std::vector<std::int64_t> samples;
        for (const LeftOut& one : evaluation.left_out) samples.push_back(one.sample);
        if (communicator.rank() == 0) {
          const auto out = folder_ / ("out-" + std::to_string(ranks));
          write_evaluation(evaluation, out, out / "predictions.png");
        }
        const std::lock_guard lock(mutex);
        result.left_out.push_back(samples);
        if (communicator.rank() == 0) result.metrics = metrics_json(evaluation.metrics);
      } catch (const comm::AgreedError& e) {
        const std::lock_guard lock(mutex);
        result.errors.push_back(std::to_string(static_cast<int>(e.code())) + " " + e.what());
      }
    });
    return result;
  }

  ScratchFolder folder_;
  Config config_;
};

TEST_P(EvaluationOf, IsThatOfTheImagesThatCanBeRead) {
  const testing::UnreadableDataset damaged(open());
  const SubsetDataset others(open(), {0, 2, 3, 5});
  const std::string expected = evaluate_on(1, others).metrics;
  ASSERT_THAT(expected, HasSubstr(":"));
  for (const int ranks : {1, 2, 4}) {
    const Result result = evaluate_on(ranks, damaged);
    EXPECT_THAT(result.errors, ElementsAre());
    EXPECT_EQ(result.metrics, expected) << ranks;
    EXPECT_EQ(std::ssize(result.left_out), ranks);
    EXPECT_THAT(result.left_out, Each(ElementsAre(1, 4))) << ranks;
  }
}

TEST_P(EvaluationOf, MoreThanTheLimitEndsOnAllRanksAlike) {
  config_.data.skip_limit = 1;
  const testing::UnreadableDataset damaged(open());
  const std::vector<std::string> alone = evaluate_on(1, damaged).errors;
  ASSERT_EQ(alone.size(), 1u);
  EXPECT_THAT(alone[0], HasSubstr("65 "));
  EXPECT_THAT(alone[0], HasSubstr("2 are more than data.skip_limit 1 allows"));
  for (const int ranks : {2, 4}) {
    const Result result = evaluate_on(ranks, damaged);
    EXPECT_EQ(std::ssize(result.errors), ranks);
    EXPECT_THAT(result.errors, Each(alone[0]));
  }
}

TEST_P(EvaluationOf, ADivergedNetworkIsNoEvaluation) {
  const auto data = open();
  for (const int ranks : {1, 2}) {
    const Result result = evaluate_on(ranks, *data, true);
    EXPECT_EQ(std::ssize(result.errors), ranks);
    EXPECT_THAT(result.errors, Each(HasSubstr("79 '" + data->sample(0).name + "': the network's")));
  }
}

INSTANTIATE_TEST_SUITE_P(Tasks, EvaluationOf,
                         ::testing::Values("detection", "segmentation", "classification"),
                         [](const auto& info) { return std::string(info.param); });

TEST(LeftOutText, CountsAllAndNamesTheFirst) {
  const Config config = small_config({"data.train.limit=30"});
  const auto data = open_dataset(config.data, {.fields = {.boxes = true}});
  std::vector<LeftOut> left_out = {{.sample = 3}, {.sample = 7}};
  EXPECT_EQ(left_out_text(left_out, *data),
            "2 of 30 images cannot be read and are left out: 'shapes/train/3', 'shapes/train/7'");
  for (std::int64_t i = 8; i < 30; ++i) left_out.push_back({.sample = i});
  EXPECT_THAT(left_out_text(left_out, *data), ::testing::EndsWith("'shapes/train/25', ..."));
}

}  // namespace
}  // namespace trainer
