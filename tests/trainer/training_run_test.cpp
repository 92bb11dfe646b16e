// What a run leaves behind, however it ends.
#include "trainer/training_run.h"

#include <gmock/gmock.h>
#include <signal.h>

#include <atomic>
#include <fstream>
#include <iterator>
#include <set>

#include "comm/communicator_local.h"
#include "comm/device.h"
#include "tests/trainer/commands/command_fixture.h"
#include "trainer/report/metrics_file.h"
#include "trainer/weights.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Calls `on_image` with the split and the sample before it is read.
using OnImage = std::function<void(const std::string& split, std::int64_t sample)>;

class Watched final : public Dataset {
 public:
  Watched(std::unique_ptr<Dataset> whole, std::string split, OnImage on_image)
      : Dataset(*whole),
        whole_(std::move(whole)),
        split_(std::move(split)),
        on_image_(std::move(on_image)) {}
  std::int64_t size() const override { return whole_->size(); }
  const Sample& sample(std::int64_t index) const override { return whole_->sample(index); }
  ShrunkImage image(std::int64_t index, const NeededSize& needed) const override {
    if (on_image_) on_image_(split_, index);
    return whole_->image(index, needed);
  }
  CocoAnnotations ground_truth() const override { return whole_->ground_truth(); }

 private:
  std::unique_ptr<Dataset> whole_;
  std::string split_;
  OnImage on_image_;
};

struct Ended {
  comm::ExitCode code = comm::ExitCode::kDone;
  std::string text;
};

struct Start {
  std::vector<std::string> overrides;
  std::string resume = "auto";
  bool check = false;
  int ranks = 1;
  OnImage on_image;
  bool asked = false;  // to stop, before it starts
};

class Run : public ::testing::Test {
 protected:
  Ended start(const std::string& out, const Start& start) {
    const comm::StopSignals signals;
    if (start.asked) raise(SIGUSR1);
    std::vector<Ended> ends(static_cast<std::size_t>(start.ranks));
    comm::run_local(start.ranks, [&](comm::Communicator& communicator) {
      comm::Progress progress;
      TrainingOptions options;
      options.out = folder_ / out;
      options.resume = start.resume;
      options.check = start.check;
      options.console = console_.get();
      options.open = [&](const DataConfig& config, const OpenOptions& open) {
        return std::make_unique<Watched>(open_dataset(config, open), open.split, start.on_image);
      };
      std::vector<std::string> overrides = {"train={batch: 2, micro_batch: 1, steps: 2}",
                                            "runtime.threads=1", "data.val.limit=3",
                                            "checkpoint.best=bbox/AR100"};
      overrides.insert(overrides.end(), start.overrides.begin(), start.overrides.end());
      const LoadedConfig config{small_config(overrides), {}, {}};
      try {
        TrainingRun(config, options, communicator, progress, signals).run();
      } catch (const AgreedError& error) {
        ends[static_cast<std::size_t>(communicator.rank())] = {error.code(), error.what()};
      }
    });
    for (const Ended& end : ends) EXPECT_EQ(end.text, ends[0].text);
    return ends[0];
  }
  fs::path path(const std::string& name) const { return folder_ / name; }
  std::string text(const std::string& name) const {
    std::ifstream file(folder_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::vector<std::int64_t> evaluated(const std::string& out) const {
    std::vector<std::int64_t> steps;
    for (const MetricsLine& line : read_metrics(folder_ / (out + "/metrics.jsonl")))
      if (!line.split.empty()) steps.push_back(line.step);
    return steps;
  }
  std::set<std::string> checkpoints(const std::string& out) const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_ / (out + "/checkpoints")))
      if (!entry.is_symlink()) names.insert(entry.path().filename().string());
    return names;
  }

  ScratchFolder folder_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> console_{std::fopen("/dev/null", "w"),
                                                           &std::fclose};
};

// Puts a file where the checkpoints go, once the first evaluation reads an image.
OnImage block_checkpoints(const fs::path& out) {
  return [checkpoints = out / "checkpoints"](const std::string& split, std::int64_t) {
    if (split != "val" || !fs::is_directory(checkpoints)) return;
    fs::remove_all(checkpoints);
    std::ofstream(checkpoints) << "in the way";
  };
}

TEST_F(Run, DoesNotEndWellWithoutItsLastCheckpoint) {
  const Ended end = start("a", {.overrides = {"checkpoint.every_steps=2", "eval.every_steps=1"},
                                .on_image = block_checkpoints(path("a"))});
  EXPECT_EQ(end.code, comm::ExitCode::kIo);
  EXPECT_THAT(end.text, HasSubstr("; nothing is saved"));
}

TEST_F(Run, SavesBeforeItReportsAndDoesWithoutReports) {
  fs::create_directories(path("a"));
  std::ofstream(path("a/eval")) << "in the way";
  const Ended end = start("a", {.overrides = {"eval.every_steps=1"}});
  EXPECT_EQ(end.code, comm::ExitCode::kDone) << end.text;
  EXPECT_THAT(checkpoints("a"), ElementsAre("step-00000001", "step-00000002"));
  EXPECT_THAT(text("a/log.txt"), AllOf(HasSubstr("training goes on, failure 2"),
                                       HasSubstr("; 2 reports are missing")));
}

TEST_F(Run, AskedToStopItSavesAndOwesTheEvaluation) {
  const std::vector<std::string> overrides = {"eval.every_steps=1", "train.steps=3"};
  const Ended asked = start("a", {.overrides = overrides, .ranks = 2, .asked = true});
  EXPECT_EQ(asked.code, comm::ExitCode::kStopped);
  EXPECT_THAT(asked.text, AllOf(HasSubstr("after step 1; step 1 is saved in "),
                                HasSubstr("; run the same command to continue")));
  EXPECT_THAT(evaluated("a"), ElementsAre());

  // In the evaluation after step 2: all of the one before is written.
  std::atomic<bool> raised = false;
  const OnImage ask = [&](const std::string& split, std::int64_t) {
    if (split == "val" && fs::exists(path("a/pictures/predictions.png")) && !raised.exchange(true))
      raise(SIGUSR1);
  };
  const Ended within = start("a", {.overrides = overrides, .ranks = 2, .on_image = ask});
  EXPECT_TRUE(raised);
  EXPECT_EQ(within.code, comm::ExitCode::kStopped) << within.text;
  EXPECT_THAT(within.text, HasSubstr("after step 2; step 2 is saved"));
  EXPECT_THAT(evaluated("a"), ElementsAre(1));

  EXPECT_EQ(start("a", {.overrides = overrides}).code, comm::ExitCode::kDone);
  EXPECT_THAT(evaluated("a"), ElementsAre(1, 2, 3));
  start("b", {.overrides = overrides});
  EXPECT_THAT(evaluated("b"), ElementsAre(1, 2, 3));
  const auto values = [&](const std::string& out) {
    std::vector<std::map<std::string, double>> all;
    for (const MetricsLine& line : read_metrics(path(out + "/metrics.jsonl")))
      if (!line.split.empty()) all.push_back(line.values);
    return all;
  };
  EXPECT_EQ(values("a"), values("b"));
  EXPECT_EQ(text("a/checkpoints/best/model.h5"), text("b/checkpoints/best/model.h5"));
}

// One rank alone is asked; the others hear of it between two batches.
TEST(StopInAnEvaluation, IsAgreedByAllRanks) {
  std::atomic<int> stopped = 0;
  comm::run_local(3, [&](comm::Communicator& communicator) {
    const Config config = small_config({"data.val.limit=9"});
    const comm::Stream stream(comm::Device{}, 1);
    const auto data = open_dataset(config.data, {.split = "val", .fields = {.boxes = true}});
    Network network(config, num_classes_for(config, *data), 3, stream, {3, false});
    initialize(network.storage(), 1);
    comm::Progress progress;
    EvaluationContext context{config, network, *data, communicator, progress};
    int asked = 0;
    context.stop = [&] { return ++asked == 2 && communicator.rank() == 1; };
    try {
      evaluate(context);
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.code(), comm::ExitCode::kStopped) << error.what();
      EXPECT_EQ(asked, 2);
      ++stopped;
    }
  });
  EXPECT_EQ(stopped, 3);
}

TEST_F(Run, AnErrorOfAnEvaluationDoesNotCostTheSteps) {
  const Ended end = start("a", {.overrides = {"eval.every_steps=2"},
                                .on_image = [](const std::string& split, std::int64_t sample) {
                                  if (split == "val" && sample == 1)
                                    comm::fail(comm::ExitCode::kData, "sample 1 is damaged");
                                }});
  EXPECT_EQ(end.code, comm::ExitCode::kData);
  EXPECT_THAT(end.text, HasSubstr("sample 1 is damaged; step 2 is saved in "));
  EXPECT_THAT(checkpoints("a"), ElementsAre("step-00000002"));
  EXPECT_THAT(text("a/log.txt"), HasSubstr("error: exit code 65: "));
}

TEST_F(Run, ThatDivergesFinishesTheSaveInFlightAndSaysWhatStands) {
  const std::vector<std::string> diverging = {"optimizer.lr=1000", "eval.every_epochs=0",
                                              "train.steps=12"};
  const Ended lost = start("a", {.overrides = diverging});
  EXPECT_EQ(lost.code, comm::ExitCode::kDiverged);
  EXPECT_THAT(lost.text,
              HasSubstr("; nothing is saved; start again with a lower optimizer.lr or clip.norm"));
  EXPECT_THAT(text("a/log.txt"), HasSubstr("error: exit code 79: "));
  // The advice can be followed.
  EXPECT_EQ(start("a", {.overrides = {"eval.every_epochs=0"}}).code, comm::ExitCode::kDone);

  std::vector<std::string> saving = diverging;
  saving.push_back("checkpoint.every_steps=1");
  const Ended end = start("b", {.overrides = saving, .ranks = 2});
  EXPECT_EQ(end.code, comm::ExitCode::kDiverged);
  ASSERT_FALSE(checkpoints("b").empty()) << end.text;
  const int step = std::stoi(checkpoints("b").rbegin()->substr(5));
  EXPECT_THAT(end.text, HasSubstr(fmt::format("step {}: ", step + 1)));
  EXPECT_THAT(end.text, HasSubstr(fmt::format("; step {} is saved in ", step)));
  EXPECT_THAT(end.text, HasSubstr("--init " + path("b").string()));
}

TEST_F(Run, CheckedChangesNothing) {
  ASSERT_EQ(start("a", {}).code, comm::ExitCode::kDone);
  const auto listing = [&] {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(path("a")))
      if (entry.is_regular_file()) files[entry.path()] = text(fs::relative(entry, path("")));
    return files;
  };
  const auto before = listing();
  EXPECT_EQ(start("a", {.overrides = {"log.every_steps=7"}, .check = true}).code,
            comm::ExitCode::kDone);
  EXPECT_EQ(listing(), before);
  EXPECT_EQ(start("b", {.check = true}).code, comm::ExitCode::kDone);
  EXPECT_FALSE(fs::exists(path("b/checkpoints")));
}

TEST_F(Run, SaysThatTheLastOneEndedUncleanly) {
  fs::create_directories(path("a"));
  std::ofstream(path("a/LOCK")) << "process 1 on elsewhere since then\n";
  start("a", {});
  EXPECT_THAT(text("a/log.txt"), HasSubstr("ended without cleaning up: \"process 1 on elsewhere"));
}

TEST_F(Run, FromANamedCheckpointGoesOnFromItsOwn) {
  start("a", {.overrides = {"checkpoint.every_steps=1"}});
  const std::string from = path("a/checkpoints/step-00000001");
  start("b", {.resume = from});
  EXPECT_THAT(checkpoints("b"), ElementsAre("step-00000002"));
  EXPECT_EQ(start("b", {.overrides = {"train.steps=3"}, .resume = from}).code,
            comm::ExitCode::kDone);
  EXPECT_THAT(text("b/log.txt"), HasSubstr("b/checkpoints/step-00000002 (step 2)"));
  EXPECT_THAT(checkpoints("b"), ElementsAre("step-00000002", "step-00000003"));
  // A run that did not begin from it is taken back to it.
  start("a", {.resume = from});
  EXPECT_TRUE(checkpoints("a").contains("step-00000002-2"));
}

TEST_F(Run, StoppedNamesTheOptionThatContinues) {
  EXPECT_THAT(start("a", {.resume = "never", .asked = true}).text,
              HasSubstr("run the same command with --resume auto to continue"));
}

TEST_F(Run, ChoosesTheBestAmongEvaluationsThatCompare) {
  const std::vector<std::string> once = {"eval.every_steps=1", "checkpoint.keep=9"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = once;
    all.insert(all.end(), more.begin(), more.end());
    return Start{.overrides = all};
  };
  const auto num_best = [&] {
    const std::string log = text("a/log.txt");
    std::size_t count = 0;
    for (std::size_t at = 0; (at = log.find("(best)", at)) != log.npos; ++at) ++count;
    return count;
  };
  start("a", with({"optimizer.lr=1e-12"}));
  EXPECT_EQ(num_best(), 1u) << text("a/log.txt");
  start("a", with({"optimizer.lr=1e-12", "train.steps=3"}));
  EXPECT_EQ(num_best(), 1u);
  start("a", with({"optimizer.lr=1e-12", "train.steps=4", "eval.detections=50"}));
  EXPECT_EQ(num_best(), 2u);
  EXPECT_THAT(text("a/log.txt"),
              HasSubstr("evaluations differ: 'eval.detections: 300' -> 'eval.detections: 50'"));
  start("a",
        with({"optimizer.lr=1e-12", "train.steps=5", "eval.detections=50", "data.val.limit=4"}));
  EXPECT_EQ(num_best(), 3u);
  EXPECT_EQ(fs::read_symlink(path("a/checkpoints/best")), "step-00000005");
}

TEST_F(Run, WarnsOfMoreThreadsThanCores) {
  const std::size_t threads = comm::cpu_info().cores.size() + 1;
  start("a", {.overrides = {fmt::format("runtime.threads={}", threads)}});
  EXPECT_THAT(text("a/log.txt"),
              HasSubstr(fmt::format("warning: {} threads a rank where there are", threads)));
  start("b", {});
  EXPECT_THAT(text("b/log.txt"), Not(HasSubstr("threads a rank where")));
}

}  // namespace
}  // namespace trainer
