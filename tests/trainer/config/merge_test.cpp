#include <cstdlib>

#include "tests/trainer/config/config_testing.h"

namespace trainer {
namespace {

using comm::ExitCode;
using testing::HasSubstr;
using testing::StartsWith;

std::string file_error(const std::string& path, ExitCode code) {
  try {
    load_config(path);
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), code);
    return e.what();
  }
  return "";
}

TEST(Merge, LaterFilesWinKeyByKey) {
  const Folder folder;
  folder.write("sub/a.yaml", "train: {epochs: 3, batch: 8}\noptimizer: {lr: 0.5, momentum: 0.5}\n");
  folder.write("b.yaml", "optimizer: {lr: 0.25}\ndata: {mean: [0.1, 0.2, 0.3]}\n");
  const std::string own = folder.write(
      "own.yaml", "_base_: [sub/a.yaml, b.yaml]\ntrain: {batch: 24}\ndata: {mean: [0.5]}\n");
  const LoadedConfig loaded = load_config(own, Overrides{"train.batch=40"});
  EXPECT_EQ(loaded.config.train.batch, 40);
  EXPECT_EQ(loaded.config.optimizer.lr, 0.25);
  EXPECT_EQ(loaded.config.optimizer.momentum, 0.5);
  EXPECT_EQ(loaded.config.data.mean, std::vector<double>{0.5});  // lists are replaced
  EXPECT_EQ(loaded.config.name, "own");
  EXPECT_EQ(loaded.origins.at("train.batch"), "command line");
  EXPECT_EQ(loaded.origins.at("train.epochs"), folder.path("sub/a.yaml") + ":1");
  EXPECT_EQ(loaded.origins.at("optimizer.lr"), folder.path("b.yaml") + ":1");
  EXPECT_EQ(loaded.origins.at("optimizer.momentum"), folder.path("sub/a.yaml") + ":2");
  EXPECT_EQ(loaded.origins.at("data.mean"), own + ":3");
  EXPECT_EQ(loaded.origins.at("data.std"), "default");
  EXPECT_EQ(loaded.origins.at("train.micro_batch"), "default (batch / 8)");
}

TEST(Merge, OneBaseNeedsNoList) {
  const Folder folder;
  folder.write("a.yaml", "train: {epochs: 3}\n");
  EXPECT_EQ(load_config(folder.write("b.yaml", "_base_: a.yaml\n")).config.train.epochs, 3);
}

TEST(Merge, LengthOfTheRunIsOneChoice) {
  const Folder folder;
  folder.write("a.yaml", "train: {epochs: 3}\n");
  const std::string b = folder.write("b.yaml", "_base_: a.yaml\ntrain: {steps: 100}\n");
  EXPECT_EQ(load_config(b).config.train.steps, 100);
  EXPECT_EQ(load_config(b).config.train.epochs, std::nullopt);
  EXPECT_EQ(load_config(b, Overrides{"train.epochs=5"}).config.train.steps, std::nullopt);
  EXPECT_THAT(error_of("train: {epochs: 1, steps: 2}"), HasSubstr("keep one"));
}

TEST(Merge, CyclesDepthAndMissingFiles) {
  const Folder folder;
  const std::string a = folder.write("a.yaml", "train: {epochs: 1}\n_base_: b.yaml\n");
  folder.write("b.yaml", "_base_: ./sub/../a.yaml\n");
  std::filesystem::create_directories(folder.path("sub"));
  EXPECT_THAT(file_error(a, ExitCode::kConfig), HasSubstr("includes itself"));
  for (int i = 0; i < 12; ++i)
    folder.write("d" + std::to_string(i) + ".yaml",
                 "_base_: d" + std::to_string(i + 1) + ".yaml\n");
  EXPECT_THAT(file_error(folder.path("d0.yaml"), ExitCode::kConfig), HasSubstr("more than 8"));
  const std::string many = folder.write("e.yaml", "_base_: [f.yaml, f.yaml, f.yaml, f.yaml]\n");
  folder.write("f.yaml", "_base_: [g.yaml, g.yaml, g.yaml, g.yaml]\n");
  folder.write("g.yaml", "_base_: [h.yaml, h.yaml, h.yaml, h.yaml]\n");
  folder.write("h.yaml", "train: {epochs: 1}\n");
  EXPECT_THAT(file_error(many, ExitCode::kConfig), HasSubstr("64 files"));
  const std::string lost = folder.write("lost.yaml", "\n_base_: [nowhere.yaml]\n");
  EXPECT_THAT(file_error(lost, ExitCode::kInputMissing),
              AllOf(StartsWith(lost + ":2: _base_: "), HasSubstr("nowhere.yaml")));
  EXPECT_THAT(file_error(folder.path("none.yaml"), ExitCode::kInputMissing),
              HasSubstr("no such configuration file"));
  EXPECT_THAT(file_error(folder.path("sub"), ExitCode::kInputMissing), HasSubstr("cannot be read"));
}

TEST(Overrides, ValuesAreYamlAndReplaceTheNode) {
  const std::string text =
      "train: {epochs: 1}\noptimizer: {lr: 0.5, momentum: 0.9}\n"
      "regularization: {rules: []}\ndata: {train: {images: i, annotations: a}}\n";
  const Config config =
      parse(text, {"data.size=[256,128]", "optimizer={name: adam}", "regularization.rules=null",
                   "model.backbone_weights=", "data.train.limit=5", "train.seed=7", "train.seed=8",
                   "data.root=a=b"})
          .config;
  EXPECT_EQ(config.data.size, (std::vector<InputSize>{{256, 128}}));
  EXPECT_EQ(config.optimizer.name, OptimizerName::kAdam);
  EXPECT_EQ(config.optimizer.lr, OptimizerConfig().lr);  // a map replaces the node
  EXPECT_EQ(config.regularization.rules, std::nullopt);
  EXPECT_EQ(config.data.splits.at("train").images, "i");
  EXPECT_EQ(config.data.splits.at("train").limit, 5);
  EXPECT_EQ(config.train.seed, 8);
  EXPECT_EQ(config.data.root, "a=b");
}

TEST(Overrides, ErrorsNameTheCommandLine) {
  const std::string text = "train: {epochs: 1}\n";
  EXPECT_EQ(error_of(text, {"optimizer.lrr=1"}),
            "command line: optimizer.lrr: unknown key; did you mean 'optimizer.lr'");
  EXPECT_EQ(error_of(text, {"train.lr=1"}),
            "command line: train.lr: unknown key; did you mean 'optimizer.lr'");
  EXPECT_THAT(error_of(text, {"data.size=[1"}),
              AllOf(StartsWith("command line: data.size: "), HasSubstr("bracket left open")));
  EXPECT_THAT(error_of(text, {"name='x"}), StartsWith("command line: name: not YAML"));
  EXPECT_THAT(error_of(text, {"optimizer.lr"}, ExitCode::kUsage), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(error_of(text, {"=3"}, ExitCode::kUsage), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(error_of(text, {"a..b=3"}, ExitCode::kUsage), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(error_of("optimizer.lr: 3\n"), HasSubstr("write it nested"));
}

TEST(Environment, ExpandsTextOnce) {
  setenv("CONFIG_TEST_SET", "a: {b}", 1);
  setenv("CONFIG_TEST_EMPTY", "", 1);
  setenv("CONFIG_TEST_LR", "0.25", 1);
  setenv("CONFIG_TEST_NESTED", "${HOME}", 1);
  unsetenv("CONFIG_TEST_UNSET");
  const auto root = [](const std::string& text) {
    return parse("train: {epochs: 1}\ndata:\n  root: " + text + "\n").config.data.root;
  };
  EXPECT_EQ(root("${CONFIG_TEST_SET}/x"), "a: {b}/x");
  EXPECT_EQ(root("${CONFIG_TEST_UNSET:-/d e}/x"), "/d e/x");
  EXPECT_EQ(root("${CONFIG_TEST_EMPTY:-d}${CONFIG_TEST_EMPTY}"), "d");
  EXPECT_EQ(root("${CONFIG_TEST_NESTED}"), "${HOME}");
  EXPECT_EQ(root("\"$${HOME}$x\""), "${HOME}$x");
  EXPECT_EQ(
      parse("{train: {epochs: 1}, optimizer: {lr: \"${CONFIG_TEST_LR}\"}}").config.optimizer.lr,
      0.25);
  EXPECT_EQ(error_of("data:\n  root: ${CONFIG_TEST_UNSET}\n"),
            "t.yaml:2: data.root: environment variable CONFIG_TEST_UNSET is not set; set it or "
            "write ${CONFIG_TEST_UNSET:-default}");
  EXPECT_THAT(error_of("data:\n  root: ${A\n"), HasSubstr("without '}'"));
  EXPECT_THAT(error_of("data:\n  root: ${A B}\n"), HasSubstr("is not a variable"));
}

}  // namespace
}  // namespace trainer
