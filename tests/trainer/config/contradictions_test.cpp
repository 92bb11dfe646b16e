#include "tests/trainer/config/config_testing.h"

namespace trainer {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

struct Contradiction {
  std::string override_;  // several are separated by blanks
  std::string expected;
};

Overrides words(const std::string& text) {
  Overrides result;
  std::istringstream stream(text);
  for (std::string word; stream >> word;) result.push_back(word);
  return result;
}

class Contradictions : public testing::TestWithParam<Contradiction> {};

TEST_P(Contradictions, AreRefused) {
  const auto& [given, expected] = GetParam();
  const std::string error = error_of("train: {epochs: 1}\n", words(given));
  EXPECT_THAT(error, AllOf(StartsWith("command line: "), HasSubstr(expected)));
}

INSTANTIATE_TEST_SUITE_P(
    Config, Contradictions,
    testing::Values(
        Contradiction{"train.batch=16 train.micro_batch=3", "choose from 1, 2, 4, 8, 16"},
        Contradiction{"data.size=[100,256]", "multiples of 32"},
        Contradiction{"data.size=[[64,64],[64,70]]", "nearest [64, 96]"},
        Contradiction{"model.name=fcn data.size=[100,100]", "multiples of 8"},
        Contradiction{"model.name=fcn model.head=8s data.size=[48,64]", "skips meet"},
        Contradiction{"eval.size=[[64,64],[64,70]]", "eval.size: [64, 70] must be multiples of 32"},
        Contradiction{"data.resize=none eval.size=[64,64]", "all images have data.size"},
        Contradiction{"model.name=cnn data.format=mnist eval.size=[32,32]", "linear layers"},
        Contradiction{"model.name=classifier model.backbone=vgg16 data.format=folders "
                      "data.size=[224,224] eval.size=[256,256]",
                      "linear layers"},
        Contradiction{"model.backbone=vgg16", "needs a resnet"},
        Contradiction{"model.name=fcn model.backbone=resnet18",
                      "needs resnet50, resnet101 or resnext50_32x4d"},
        Contradiction{"model.head=8s", "is for fcn only"},
        Contradiction{"model.name=fcn model.head=8s model.aux=true", "head dilated only"},
        Contradiction{"data.format=masks", "retinanet; it trains on [coco, voc, shapes]"},
        Contradiction{"data.format=mnist", "has no targets for model.name retinanet"},
        Contradiction{"data.label_map=cityscapes", "needs data.format masks"},
        Contradiction{"data.format=voc data.label_map=ids", "needs data.format coco"},
        Contradiction{"model.num_classes=3 data.classes=[a,b,c]", "names 3 beside the background"},
        Contradiction{"model.anchors.sizes=[64,32,128,256,512]", "must increase"},
        Contradiction{"data.mean=[0,0]", "2 values for 3 channels"},
        Contradiction{"data.scale=[2,1]", "upside down"},
        Contradiction{"data.resize=none data.scale=[0.5,2]", "needs data.resize fit or crop"},
        Contradiction{"data.train.images=x", "annotations"},
        Contradiction{"optimizer.nesterov=true", "momentum > 0"},
        Contradiction{"optimizer.name=adamw regularization.mode=coupled", "decoupled decay"},
        Contradiction{"regularization.decay_scale=schedule_only", "mode: decoupled only"},
        Contradiction{"schedule.type=step schedule.milestones=[22,16]", "must increase"},
        Contradiction{"schedule.type=step schedule.milestones=[16,16]", "must increase"},
        Contradiction{"schedule.type=step", "needs schedule.milestones"},
        Contradiction{"checkpoint.best=bbox/ap", "did you mean 'bbox/AP'"},
        Contradiction{"checkpoint.best=semantic/mIoU", "is no metric of retinanet"},
        Contradiction{"eval.weights=ema", "ema.decay > 0"},
        Contradiction{"train.early_stop=3", "needs data.val"},
        Contradiction{"runtime.device=cpu runtime.precision=bf16", "bf16 is for CUDA"},
        Contradiction{"name=a/b", "no name of a folder"},
        Contradiction{"name=..", "no name of a folder"},
        Contradiction{"data.only=[d] data.classes=[a] model.name=classifier data.format=folders",
                      "not among data.classes"}));

const char kMlp[] =
    "{model: {name: mlp, layers: [784, 10]}, data: {format: mnist}, "
    "train: {epochs: 1}}";

TEST(ModelChecks, Layers) {
  EXPECT_EQ(error_of(kMlp), "");
  EXPECT_THAT(error_of(kMlp, {"model.layers=[785,10]"}), HasSubstr("gives 784 inputs"));
  EXPECT_THAT(error_of(kMlp, {"model.layers=[784]"}), HasSubstr("at least input and output"));
  EXPECT_THAT(error_of(kMlp, {"model.num_classes=5"}), HasSubstr("the last is 10"));
  EXPECT_THAT(error_of(kMlp, {"data.size=[[28,28],[28,28]]"}), HasSubstr("takes one size"));
}

TEST(ModelChecks, Splits) {
  const std::string masks =
      "{model: {name: fcn}, train: {epochs: 1}, data: {format: masks, train: ";
  EXPECT_EQ(error_of(masks + "{list: a}}}"), "");
  EXPECT_EQ(error_of(masks + "{images: a, labels: b}}}"), "");
  for (const char* wrong : {"{images: a}", "{labels: a}", "{images: a, labels: b, list: c}", "{}"})
    EXPECT_THAT(error_of(masks + wrong + "}}"), HasSubstr("masks needs")) << wrong;
}

TEST(Splits, AnyNameButASlipOfThePen) {
  const auto with = [](const std::string& name) {
    return "train: {epochs: 1}\ndata:\n  " + name + ": {images: i, annotations: a}\n";
  };
  for (const char* name : {"train", "val", "test", "test2", "val_2017", "train-small", "holdout"})
    EXPECT_EQ(parse(with(name)).config.data.splits.at(name).images, "i") << name;
  EXPECT_THAT(error_of(with("trian")), HasSubstr("did you mean 'data.train'"));
  EXPECT_THAT(error_of(with("siez")), HasSubstr("did you mean 'data.size'"));
  EXPECT_THAT(error_of(with("\"a b\"")), HasSubstr("unknown key"));
  EXPECT_THAT(error_of("data: {train: 5}"), HasSubstr("data.train: expected a map"));
  EXPECT_FALSE(parse(with("val") + "  test:\n").config.data.splits.contains("test"));
}

TEST(WeightDecay, IsRefusedEverywhereWithTheExplanation) {
  for (const char* key : {"optimizer.weight_decay", "weight_decay", "regularization.weight_decay",
                          "train.weight_decay", "data.weight_decay"})
    EXPECT_THAT(error_of(nested(key, "1e-4")),
                AllOf(HasSubstr(key), HasSubstr("regularization.l2"), HasSubstr("decayed twice")));
  EXPECT_THAT(error_of("regularization: {rules: [{match: {}, weight_decay: 0}]}"),
              HasSubstr("regularization.l2"));
}

TEST(Rules, AbsentEmptyAndFull) {
  const std::string start = "train: {epochs: 1}\nregularization:\n  ";
  EXPECT_EQ(parse(start + "l2: 1\n").config.regularization.rules, std::nullopt);
  EXPECT_THAT(*parse(start + "rules: []\n").config.regularization.rules, IsEmpty());
  const auto rules = *parse(start +
                            "rules:\n    - {match: {name: 'a.*', module: b, kind: [bias, "
                            "norm], scale_invariant: true}, l2: 0, l1: 1, mode: loss, "
                            "lr_scale: 2}\n    - {match: {}}\n")
                          .config.regularization.rules;
  ASSERT_EQ(rules.size(), 2u);
  EXPECT_EQ(rules[0].match.kind, (std::vector{ParameterKind::kBias, ParameterKind::kNorm}));
  EXPECT_EQ(rules[0].mode, DecayMode::kLoss);
  EXPECT_EQ(rules[0].l2, 0.0);
  EXPECT_EQ(rules[0].origin, "t.yaml:4");
  EXPECT_EQ(rules[1].l2, std::nullopt);
  EXPECT_THAT(error_of(start + "rules: [{l2: 0}]\n"), HasSubstr("match: missing"));
  EXPECT_THAT(error_of(start + "rules: [5]\n"), HasSubstr("match: missing"));
  EXPECT_THAT(error_of(start + "rules: 5\n"), HasSubstr("expected a list"));
  EXPECT_THAT(error_of(start + "rules: [{match: {}, mode: loss}]\noptimizer: {name: adamw}\n"),
              HasSubstr("rules[0].mode: adamw"));
}

TEST(Notices, KeysWithoutEffectAreNamedAndReset) {
  const LoadedConfig loaded = parse(
      "train: {epochs: 1}\noptimizer: {momentum: 0.9, name: adam}\n"
      "schedule: {milestones: [3]}\n");
  EXPECT_EQ(loaded.config.optimizer.momentum, 0);
  EXPECT_THAT(loaded.config.schedule.milestones, IsEmpty());
  ASSERT_EQ(loaded.notices.size(), 2u);
  EXPECT_EQ(loaded.notices[0],
            "t.yaml:2: optimizer.momentum: has no effect here (it is for sgd, rmsprop, lars)");
}

TEST(Problems, AllAreListedAndTheFirstSaysHowManyFollow) {
  const Folder folder;
  const std::string path = folder.write("c.yaml", "optimizer: {lrr: 1, name: sdg}\ntrane: {}\n");
  EXPECT_EQ(config_problems(path).size(), 3u);
  EXPECT_THAT(error_of("optimizer: {lrr: 1, name: sdg}\ntrane: {}\n"),
              HasSubstr("(and 2 more: ridgeline config check t.yaml)"));
}

}  // namespace
}  // namespace trainer
