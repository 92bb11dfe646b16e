#include "trainer/commands/plan.h"

#include <gmock/gmock.h>

#include <regex>

#include "comm/error.h"
#include "tests/goldens/golden_text.h"
#include "tests/trainer/commands/command_fixture.h"
#include "trainer/commands/plan_overlap.h"
#include "trainer/network.h"

namespace trainer {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string text_of(int ranks, const std::vector<std::string>& overrides = {}) {
  return plan_text(small_config(overrides), {comm::DeviceKind::kCpu, ranks});
}

double bytes_a_rank(const std::string& text) {
  std::smatch match;
  if (!std::regex_search(text, match, std::regex("(\\d+) bytes a rank"))) return -1;
  return std::stod(match[1]);
}

TEST(Plan, IsAPureFunctionOfItsArguments) {
  for (int ranks : {1, 2, 8}) EXPECT_EQ(text_of(ranks), text_of(ranks)) << ranks;
  EXPECT_NE(text_of(1), text_of(2));
}

TEST(Plan, OptimizerMemoryFallsAsOneOverTheRanks) {
  const double one = bytes_a_rank(text_of(1));
  ASSERT_GT(one, 1e6);
  for (int ranks : {2, 3, 8}) {
    EXPECT_NEAR(bytes_a_rank(text_of(ranks)) * ranks / one, 1.0, 0.005) << ranks;
  }
}

TEST(Plan, CountsEveryStateOfTheRule) {
  const double sgd = bytes_a_rank(text_of(2));
  EXPECT_EQ(bytes_a_rank(text_of(2, {"optimizer.name=adam"})), 2 * sgd);
  EXPECT_EQ(bytes_a_rank(text_of(2, {"ema.decay=0.999"})), 2 * sgd);
  EXPECT_EQ(bytes_a_rank(text_of(2, {"optimizer.momentum=0"})), 0);
  EXPECT_EQ(bytes_a_rank(text_of(2, {"optimizer.name=lars", "optimizer.momentum=0"})), sgd);
}

TEST(Plan, SaysWhenABucketMayBeUpdated) {
  EXPECT_THAT(text_of(1), HasSubstr("update gate: at once"));
  EXPECT_THAT(text_of(1, {"clip.norm=10"}),
              HasSubstr("update gate: after the global norm (clip.norm 10)"));
  EXPECT_THAT(text_of(1, {"optimizer.name=lars"}), HasSubstr("norms of the bucket's own"));
}

TEST(Plan, ListsTheSubtreesThatEachRankSends) {
  const std::string text = text_of(3);  // 8 micro-batches over 3 ranks: 0-1, 2-4, 5-7
  EXPECT_THAT(text, HasSubstr("rank 0: micro-batches [0, 2); sends sums over [0, 2)\n"));
  EXPECT_THAT(text, HasSubstr("rank 1: micro-batches [2, 5); sends sums over [2, 4) [4, 5)\n"));
  EXPECT_THAT(text, HasSubstr("rank 2: micro-batches [5, 8); sends sums over [5, 6) [6, 8)\n"));
  EXPECT_THAT(text_of(3, {"runtime.reduction=fast"}), Not(HasSubstr("sends sums")));
}

TEST(Plan, CountsEverySumThatIsSent) {
  const auto sent = [](const std::string& text, const std::string& what) {
    std::smatch found;
    const std::regex line("bucket 0: .*? ([0-9.]+) [KM]iB of " + what);
    EXPECT_TRUE(std::regex_search(text, found, line)) << text;
    return found.empty() ? 0 : std::stod(found[1]);
  };
  const std::string exact = text_of(3), fast = text_of(3, {"runtime.reduction=fast"});
  EXPECT_EQ(sent(fast, "gradients"), sent(fast, "parameters"));
  EXPECT_NEAR(sent(exact, "gradients"), 2 * sent(exact, "parameters"), 0.02);
}

TEST(Plan, OfMatrixProductsHasShares) {
  const Config config = load_config(RIDGELINE_SOURCE_DIR "/configs/mlp_mnist.yaml", {}).config;
  const std::string text = plan_text(config, {comm::DeviceKind::kCpu, 1});
  EXPECT_THAT(text, HasSubstr("behind the last 0.0 % of the backward pass"));
  EXPECT_THAT(text, Not(HasSubstr("nan")));
}

TEST(Plan, ShowsEveryShapeBucketOverOneLayout) {
  const std::string text = text_of(1, {"data.size=[[64, 96], [96, 64]]"});
  EXPECT_THAT(text, HasSubstr("size 1 of 2: 64 x 96"));
  EXPECT_THAT(text, HasSubstr("size 2 of 2: 96 x 64"));
  EXPECT_THAT(text, HasSubstr("image[1x3x96x64]"));
}

// What each GPU of 1, 8 and 64 computes, keeps and sends when, without any of them.
TEST(Plan, OfTheCocoPresetOnGpusIsTheGolden) {
  for (const auto& [ranks, batch] : {std::pair{1, 16}, {8, 16}, {64, 128}}) {
    const std::vector<std::string> overrides = {"data.size=[800,800]",
                                                "train.batch=" + std::to_string(batch)};
    const Config config =
        load_config(RIDGELINE_SOURCE_DIR "/configs/retinanet_r50_fpn_coco.yaml", overrides).config;
    goldens::expect_text("plans/retinanet_r50_cuda_ranks" + std::to_string(ranks) + ".txt",
                         plan_text(config, {comm::DeviceKind::kCuda, ranks}));
  }
}

TEST(Plan, ExchangesOverlapWithComputation) {
  const Config config = small_config();
  const auto model = configured_model(config, 4);
  const models::Plan plan =
      make_plan(*model, micro_batch_shape(config, config.data.size[0], 3), {.ranks = 4});
  const std::vector<BucketOverlap> overlaps = overlaps_of(plan);
  ASSERT_EQ(overlaps.size(), plan.layout->buckets.size());
  ASSERT_GE(overlaps.size(), 3u);
  for (std::size_t k = 0; k < overlaps.size(); ++k) {  // ready first, needed last
    EXPECT_GE(overlaps[k].backward_left, 0) << k;
    EXPECT_LE(overlaps[k].forward_done, 1) << k;
    if (k == 0) continue;
    EXPECT_LT(overlaps[k].backward_left, overlaps[k - 1].backward_left) << k;
    EXPECT_LT(overlaps[k].forward_done, overlaps[k - 1].forward_done) << k;
  }
  EXPECT_GT(overlaps.front().backward_left, 0.3);
  EXPECT_GT(overlaps.front().forward_done, 0.3);
  EXPECT_EQ(overlaps.back().backward_left, 0);  // the step ends with the last gradient
  EXPECT_THAT(text_of(1), HasSubstr("bucket 0: a rank sends 0 B of gradients"));
}

TEST(Plan, NeedsNoDevice) {
  const std::string text = plan_text(small_config(), {comm::DeviceKind::kCuda, 2});
  EXPECT_THAT(text, HasSubstr("training on cuda, 2 ranks"));
  EXPECT_THAT(text, HasSubstr("reduction: fast"));
}

TEST(Plan, RefusesMoreRanksThanMicroBatches) {
  try {
    text_of(9);
    FAIL();
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), comm::ExitCode::kConfig);
    EXPECT_THAT(e.what(), HasSubstr("at most 8 ranks"));
    EXPECT_THAT(e.what(), HasSubstr("train.micro_batch"));
  }
}

TEST(Plan, NamesTheKeyWithoutWhichTheClassesAreUnknown) {
  const Config config =
      parse_config(
          "data: {format: coco, train: {images: a, annotations: b.json}}\ntrain: {epochs: 1}\n",
          "coco.yaml")
          .config;
  try {
    plan_text(config, {});
    FAIL();
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), comm::ExitCode::kConfig);
    EXPECT_THAT(e.what(), HasSubstr("model.num_classes"));
  }
}

}  // namespace
}  // namespace trainer
