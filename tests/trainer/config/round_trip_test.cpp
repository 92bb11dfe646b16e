#include <map>

#include "tests/trainer/config/config_testing.h"
#include "trainer/config/schema.h"

namespace trainer {
namespace {

using testing::HasSubstr;
using testing::Not;

void expect_round_trip(const LoadedConfig& loaded) {
  const std::string text = resolved_yaml(loaded.config, loaded.origins);
  const LoadedConfig again = parse_config(text, "config.yaml");
  EXPECT_EQ(again.config, loaded.config) << text;
  EXPECT_THAT(again.notices, testing::IsEmpty());
  EXPECT_EQ(key_values(again.config), key_values(loaded.config));
}

TEST(RoundTrip, OddTextSurvives) {
  const std::string odd[] = {"*.weight",
                             "a b",
                             "#x",
                             "a: b",
                             "",
                             "null",
                             "~",
                             "-",
                             "- a",
                             "true",
                             "1e3",
                             "\\n",
                             "\"q\"",
                             "it's",
                             "$${HOME}",
                             "$x",
                             "\xc3\xa4/\xe6\xbc\xa2",
                             "a,b",
                             "[x]",
                             "{x}",
                             "%",
                             "@",
                             "!x",
                             "&a",
                             "...",
                             "---",
                             "0x1"};
  for (const std::string& text : odd) {
    std::string escaped;
    for (const char c : text)
      escaped += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
    const std::string in_quotes = "\"" + escaped + "\"";
    const LoadedConfig loaded =
        parse("train: {epochs: 1}\ndata: {root: " + in_quotes + ", classes: [" + in_quotes +
              ", b]}\n"
              "regularization: {rules: [{match: {name: " +
              in_quotes + "}, l2: 0.5}]}\n");
    expect_round_trip(loaded);
  }
  expect_round_trip(parse("train: {epochs: 1}\ndata: {root: \"a\\nb\\t\\e\\x7f\"}\n"));
}

TEST(RoundTrip, EveryKeyAwayFromItsDefault) {
  const std::map<std::string, std::string> models = {
      {"retinanet",
       "{name: retinanet, anchors: {sizes: [1, 2, 3, 4, 5], ratios: [0.1, 3]}, "
       "norm: group, norm_eps: 0, trainable_stages: 0, num_classes: 7}"},
      {"fcn",
       "{name: fcn, backbone: vgg16, head: 16s, deconvolution: learned, "
       "loss_reduction: sum, dropout: 0.25}"}};
  for (const auto& [name, model] : models)
    expect_round_trip(parse(
        "name: x y\nmodel: " + model +
        "\ndata: {root: /r, classes: [a, b], size: [[64, 96], [96, 64]], resize: crop, "
        "short_side: 99, antialias: false, mean: [0.1], std: [0.3], flip: 0.1, vflip: 0.2, "
        "scale: [0.7, 1.3], shift: 0.1, photometric: 0.3, shuffle: false, on_error: skip, "
        "skip_limit: 3, train: {images: i, annotations: a, limit: 9}, other: {annotations: b}}\n"
        "train: {batch: 24, micro_batch: 3, steps: 1e6, seed: 9007199254740992, early_stop: 0}\n"
        "optimizer: {name: adamw, lr: 1.0e-10, betas: [0.1, 0.2], eps: 1e-30}\n"
        "regularization: {l2: 0.1, l1: 0.3, convention: full, decay_scale: schedule_only, "
        "schedule: cosine, end_factor: 2, rules: [{match: {kind: [bias, fixed]}, lr_scale: 2}, "
        "{match: {scale_invariant: false, module: \"a*\"}, mode: decoupled, l1: 0, l2: 3}]}\n"
        "schedule: {warmup_steps: 7, warmup_factor: 0.5, type: poly, power: 2, min_factor: 0.1}\n"
        "clip: {norm: 3}\nema: {decay: 0.99}\n"
        "runtime: {device: cuda, precision: bf16, threads: 3, share_gpu: true, capture: none}\n"
        "checkpoint: {every_steps: 0, every_minutes: 0.5, keep: 1, best: \"\"}\n"
        "eval: {weights: ema, every_steps: 5}\nlog: {every_steps: 3}\n"));
}

TEST(Resolved, DefaultsThatDependOnOthers) {
  const auto of = [](const std::string& rest) { return parse("train: {epochs: 1}\n" + rest); };
  EXPECT_EQ(of("").config.train.micro_batch, 2);
  EXPECT_EQ(parse("train: {epochs: 1, batch: 12}").config.train.micro_batch, 12);
  EXPECT_EQ(of("model: {name: fcn}\n").config.model.dropout, 0.1);
  EXPECT_EQ(of("model: {name: fcn, dropout: 0}\n").config.model.dropout, 0);
  EXPECT_EQ(of("model: {name: fcn, head: 8s, backbone: vgg16}\n").config.model.dropout, 0.5);
  EXPECT_EQ(of("model: {name: fcn}\n").config.checkpoint.best, "semantic/mIoU");
  EXPECT_EQ(of("optimizer: {name: adamw}\n").config.regularization.mode, DecayMode::kDecoupled);
  EXPECT_EQ(of("optimizer: {name: adagrad}\n").config.optimizer.eps, 1e-10);
  const Config shapes = of("data: {format: shapes, train: {limit: 7}, val: {}}\n").config;
  EXPECT_EQ(shapes.data.splits.at("train").limit, 7);
  EXPECT_EQ(shapes.data.splits.at("val").limit, 128);
  const LoadedConfig mnist = of("model: {name: cnn}\ndata: {format: mnist}\n");
  EXPECT_EQ(mnist.config.data.size, (std::vector<InputSize>{{28, 28}}));
  EXPECT_EQ(mnist.config.data.mean, std::vector<double>{0});
  EXPECT_EQ(mnist.config.data.splits.size(), 2u);
  EXPECT_EQ(mnist.origins.at("data.size"), "default (mnist)");
}

TEST(Resolved, CommentsSayWhereFromAndIdleKeysAreLeftOut) {
  const LoadedConfig loaded =
      parse("train: {epochs: 1}\n\noptimizer: {lr: 0.5}\n", {"ema.decay=0.9"});
  const std::string text = resolved_yaml(loaded.config, loaded.origins);
  EXPECT_THAT(text, HasSubstr("\n  lr: 0.5  # t.yaml:3\n"));
  EXPECT_THAT(text, HasSubstr("\n  decay: 0.9  # command line\n"));
  EXPECT_THAT(text, HasSubstr("\n  micro_batch: 2  # default (batch / 8)\n"));
  EXPECT_THAT(text, Not(HasSubstr("betas")));
  EXPECT_THAT(text, Not(HasSubstr("loss_reduction")));
}

TEST(KeyValues, OneChangeIsOneDifferenceOfTheRightClass) {
  const std::vector<std::pair<std::string, KeyClass>> changes = {
      {"model.norm=frozen", KeyClass::kIdentity},
      {"model.num_classes=5", KeyClass::kIdentity},
      {"data.flip=0.5", KeyClass::kIdentity},
      {"data.size=[64,64]", KeyClass::kIdentity},
      {"data.train.limit=3", KeyClass::kIdentity},
      {"train.batch=8", KeyClass::kIdentity},
      {"train.micro_batch=4", KeyClass::kIdentity},
      {"train.seed=2", KeyClass::kIdentity},
      {"optimizer.momentum=0.5", KeyClass::kIdentity},
      {"optimizer.lr=0.5", KeyClass::kIdentity},
      {"regularization.l2=0.5", KeyClass::kIdentity},
      {"regularization.rules=[]", KeyClass::kIdentity},
      {"clip.norm=1", KeyClass::kIdentity},
      {"train.epochs=9", KeyClass::kSchedule},
      {"schedule.warmup_steps=9", KeyClass::kSchedule},
      {"data.root=elsewhere", KeyClass::kRuntime},
      {"data.train.images=elsewhere", KeyClass::kRuntime},
      {"runtime.threads=2", KeyClass::kRuntime},
      {"checkpoint.keep=9", KeyClass::kRuntime},
      {"log.every_steps=9", KeyClass::kRuntime}};
  const std::string text =
      "train: {epochs: 1, micro_batch: 2}\ndata: {train: {images: i, annotations: a}}\n";
  const std::vector<KeyValue> before = key_values(parse(text).config);
  for (const auto& [change, cls] : changes) {
    const std::vector<KeyValue> after = key_values(parse(text, {change}).config);
    ASSERT_EQ(after.size(), before.size());
    int num_changed = 0;
    for (size_t i = 0; i < after.size(); ++i) {
      if (after[i] == before[i]) continue;
      ++num_changed;
      EXPECT_EQ(after[i].key, change.substr(0, change.find('=')));
      EXPECT_EQ(after[i].cls, cls) << change;
    }
    EXPECT_EQ(num_changed, 1) << change;
  }
}

TEST(KeyValues, RunIdentityIsNotTheNameOfItsFolder) {
  for (const KeyValue& value : key_values(parse("train: {epochs: 1}").config))
    EXPECT_TRUE(value.key != "name" || value.cls == KeyClass::kRuntime);
}

TEST(Presets, EachLoadsRoundTripsAndNamesItsSource) {
  int num_presets = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(RIDGELINE_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".yaml") continue;
    if (entry.path().parent_path().filename() == "regularization") continue;  // to be merged
    ++num_presets;
    SCOPED_TRACE(entry.path().string());
    EXPECT_THAT(config_problems(entry.path().string()), testing::IsEmpty());
    const LoadedConfig loaded = load_config(entry.path().string());
    EXPECT_THAT(loaded.notices, testing::IsEmpty());
    expect_round_trip(loaded);
    std::string first_line;
    std::ifstream file(entry.path());
    std::getline(file, first_line);
    EXPECT_EQ(first_line.substr(0, 2), "# ");
  }
  EXPECT_GE(num_presets, 10);
}

TEST(Presets, TorchvisionsRecipeIsItsRecipe) {
  const Config c = load_config(RIDGELINE_SOURCE_DIR "/configs/retinanet_r50_fpn_coco.yaml").config;
  EXPECT_EQ(c.train.batch, 16);
  EXPECT_EQ(c.train.epochs, 26);
  EXPECT_EQ(c.optimizer.lr, 0.01);
  EXPECT_EQ(c.optimizer.momentum, 0.9);
  EXPECT_EQ(c.schedule.milestones, (std::vector<int64_t>{16, 22}));
  EXPECT_EQ(c.schedule.warmup_steps, 1000);
  EXPECT_EQ(c.regularization.l2, 1e-4);
  EXPECT_TRUE(c.regularization.rules && c.regularization.rules->empty());
  EXPECT_EQ(c.model.norm, Norm::kFrozen);
  EXPECT_EQ(c.model.trainable_stages, 3);
  EXPECT_EQ(c.model.num_classes, 91);
}

}  // namespace
}  // namespace trainer
