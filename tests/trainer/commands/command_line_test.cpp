// The program as a user starts it: exit codes, what goes where, and the nearest right word.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "comm/gpu.h"
#include "comm/version.h"
#include "tests/trainer/commands/command_fixture.h"

namespace trainer {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

struct Ended {
  int code = -1;
  std::string out, err;
};

class CommandLine : public testing::Test {
 protected:
  Ended run(const std::string& arguments) const {
    const std::string out = folder_ / "out.txt", err = folder_ / "err.txt";
    const std::string command =
        std::string(RIDGELINE_BINARY) + " " + arguments + " >" + out + " 2>" + err + " </dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text(out), text(err)};
  }
  static std::string text(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static std::string config(const std::string& name) {
    return std::string(RIDGELINE_SOURCE_DIR "/configs/") + name;
  }

  ScratchFolder folder_;
  const std::string shapes_ = config("retinanet_r18_fpn_shapes.yaml");
};

TEST_F(CommandLine, AloneItPrintsHelpAndExits64) {
  const Ended ended = run("");
  EXPECT_EQ(ended.code, 64);
  EXPECT_THAT(ended.out, HasSubstr("train"));
  EXPECT_THAT(ended.err, IsEmpty());
}

TEST_F(CommandLine, VersionSaysItsCommit) {
  const Ended ended = run("--version");
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(ended.out, HasSubstr(comm::kVersion));
}

TEST_F(CommandLine, EveryVerbHasHelpWithAnExample) {
  for (const char* verb : {"train", "eval", "predict", "score", "data", "params", "plan", "bench",
                           "reg-check", "doctor", "config"}) {
    const Ended ended = run(std::string(verb) + " --help");
    EXPECT_EQ(ended.code, 0) << verb;
    EXPECT_THAT(ended.out, HasSubstr("Example: ")) << verb;
    EXPECT_THAT(ended.out, HasSubstr(std::string("ridgeline ") + verb));
  }
}

TEST_F(CommandLine, MisspeltWordsGetTheNearestRightOne) {
  const struct {
    std::string arguments, nearest;
    int code;
  } cases[] = {{"trian x.yaml", "did you mean train?", 64},
               {"--versoin", "did you mean --version?", 64},
               {"config shwo x.yaml", "unknown command config shwo; did you mean show?", 64},
               {"train " + shapes_ + " -out x", "did you mean --out?", 64},
               {"eval " + shapes_ + " --checkpoint x --split tset", "there is no such split", 78},
               {"plan " + shapes_ + " --rank 2", "did you mean --ranks?", 64},
               {"config shwo " + shapes_, "show", 64},
               {"params " + shapes_ + " optimizer.lrr=1", "optimizer.lr", 78}};
  for (const auto& c : cases) {
    const Ended ended = run(c.arguments);
    EXPECT_EQ(ended.code, c.code) << c.arguments;
    EXPECT_THAT(ended.err, HasSubstr(c.nearest)) << c.arguments;
    EXPECT_THAT(ended.err, StartsWith("ridgeline: error "));
    EXPECT_EQ(std::count(ended.err.begin(), ended.err.end(), '\n'), 1) << ended.err;
    EXPECT_THAT(ended.out, IsEmpty()) << c.arguments;
  }
}

TEST_F(CommandLine, MissingArgumentsAreUsage) {
  EXPECT_EQ(run("plan").code, 64);
  EXPECT_EQ(run("predict " + shapes_ + " a.png").code, 64);
  EXPECT_EQ(run("plan " + shapes_ + " --ranks zero").code, 64);
  EXPECT_EQ(run("bench " + shapes_ + " --input --floor").code, 64);
  EXPECT_EQ(run("bench " + shapes_ + " --trace").code, 64);
  EXPECT_EQ(run("bench " + shapes_ + " --parity --json").code, 64);
}

TEST_F(CommandLine, ParityNeedsAGpu) {
  if (comm::gpu_libraries().runtime != 0) GTEST_SKIP() << "a build with CUDA";
  const auto ended = run("bench " + shapes_ + " --parity runtime.device=cpu");
  EXPECT_EQ(ended.code, 69) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("runtime.device cuda"));
}

TEST_F(CommandLine, ConfigurationThatIsNotThereIs66) {
  for (const char* verb : {"params", "plan", "bench", "reg-check"}) {
    EXPECT_EQ(run(std::string(verb) + " /nowhere.yaml").code, 66) << verb;
  }
}

TEST_F(CommandLine, PlanAndBenchWithoutClassesAre78NamingTheKey) {
  std::ofstream(folder_ / "coco.yaml")
      << "data: {format: coco, root: /nowhere, train: {images: a, annotations: b.json}}\n"
         "train: {epochs: 1}\n";
  for (const char* verb : {"plan ", "bench ", "params "}) {
    const Ended ended = run(verb + (folder_ / "coco.yaml").string());
    EXPECT_EQ(ended.code, 78) << verb;
    EXPECT_THAT(ended.err, HasSubstr("model.num_classes")) << verb;
  }
}

TEST_F(CommandLine, PlanIsTheSameTextTwice) {
  for (const char* ranks : {"1", "2", "8"}) {
    const std::string arguments = "plan " + shapes_ + " train.micro_batch=1 --ranks " + ranks;
    const Ended first = run(arguments), second = run(arguments);
    EXPECT_EQ(first.code, 0) << first.err;
    EXPECT_EQ(first.out, second.out);
    EXPECT_THAT(first.out, HasSubstr("config: retinanet_r18_fpn_shapes"));
  }
}

TEST_F(CommandLine, JsonIsOneObjectOnStdout) {
  const Ended doctor = run("doctor --json");
  EXPECT_EQ(doctor.code, 0);
  EXPECT_TRUE(parse_json(doctor.out).HasMember("findings"));
  const Ended params = run("params --json " + shapes_);
  EXPECT_EQ(params.code, 0);
  EXPECT_TRUE(parse_json(params.out)["parameters"][0]["half_life_epochs"].IsDouble());
  const Ended bench = run("bench --json --steps 1 " + shapes_ +
                          " data.size=[64,64] train.batch=1 "
                          "train.micro_batch=1 runtime.threads=1");
  EXPECT_EQ(bench.code, 0) << bench.err;
  EXPECT_GT(parse_json(bench.out)["first_step_seconds"].GetDouble(), 0);
}

TEST_F(CommandLine, ParamsShowsADashWithoutAnnotations) {
  const Ended ended =
      run("params --json " + config("retinanet_r50_fpn_coco.yaml") + " data.root=/nowhere");
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("no epochs: "));
  EXPECT_TRUE(parse_json(ended.out)["parameters"][0]["half_life_epochs"].IsNull());
}

TEST_F(CommandLine, RegCheckPasses) {
  const Ended ended = run("reg-check " + shapes_ + " optimizer.name=adam regularization.mode=loss");
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("does what the ledger says"));
}

TEST_F(CommandLine, PredictNamesWhatIsMissing) {
  const Ended none = run("predict " + shapes_ + " optimizer.lr=1 --checkpoint x --out y");
  EXPECT_EQ(none.code, 64);
  EXPECT_THAT(none.err, HasSubstr("no image"));
  const Ended image =
      run("predict " + shapes_ + " nothing.png --checkpoint x --out " + (folder_ / "y").string());
  EXPECT_EQ(image.code, 66);
  EXPECT_THAT(image.err, HasSubstr("nothing.png"));
}

}  // namespace
}  // namespace trainer
