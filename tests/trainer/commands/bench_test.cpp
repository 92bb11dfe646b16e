#include "trainer/commands/bench.h"

#include <gmock/gmock.h>

#include <cmath>

#include "comm/communicator_local.h"
#include "tests/trainer/commands/command_fixture.h"
#include "trainer/commands/process_clock.h"
#include "trainer/commands/timed_communicator.h"

namespace trainer {
namespace {

using testing::HasSubstr;
using testing::Not;

BenchResult bench(const std::vector<std::string>& overrides, const BenchOptions& options) {
  const auto communicator = comm::single_communicator();
  comm::Progress progress;
  return run_bench(small_config(overrides), options, *communicator, progress);
}

const std::vector<std::string> kTiny = {"train.batch=2", "runtime.threads=1"};

TEST(Bench, TimesStepsPhasesAndOps) {
  const BenchResult result = bench(kTiny, {.steps = 2});
  EXPECT_GT(result.images_per_second, 0);
  EXPECT_GT(result.step_p50_seconds, 0);
  EXPECT_LE(result.step_p50_seconds, result.step_p99_seconds);
  EXPECT_GE(result.first_step_seconds, 0);
  EXPECT_GT(result.memory_peak_bytes, 10 << 20);
  EXPECT_EQ(result.non_finite, "");
  const PhaseSeconds& p = result.phases;
  const double step = result.batch / result.images_per_second;
  EXPECT_GT(p.forward, 0);
  EXPECT_GT(p.backward, 0);
  EXPECT_GT(p.update, 0);
  EXPECT_LE(p.forward + p.backward + p.update + p.communication, 1.01 * step);
  ASSERT_GT(result.ops.size(), 20u);
  EXPECT_EQ(result.ops[0].op, "conv2d");
  EXPECT_GT(result.ops[0].flops, 0);
  for (std::size_t i = 1; i < result.ops.size(); ++i) {
    EXPECT_LE(result.ops[i].seconds, result.ops[i - 1].seconds);
  }
}

TEST(Bench, JsonHasTheDocumentedKeys) {
  const BenchResult result = bench(kTiny, {.steps = 1});
  const rapidjson::Document json = parse_json(bench_json(result));
  for (const char* key : {"images_per_second", "step_p50_seconds", "step_p99_seconds",
                          "first_step_seconds", "memory_peak_bytes", "phases", "ops"}) {
    EXPECT_TRUE(json.HasMember(key)) << key;
  }
  for (const char* phase : {"forward", "backward", "update", "communication"}) {
    EXPECT_TRUE(json["phases"].HasMember(phase)) << phase;
  }
  ASSERT_EQ(json["ops"].Size(), 10u);
  for (const auto& op : json["ops"].GetArray()) {
    const std::string pass = op["pass"].GetString();
    const std::string other = pass == "forward" ? "bwd" : "fwd";
    EXPECT_THAT(op["implementation"].GetString(), Not(HasSubstr(other)));
  }
  EXPECT_FALSE(json.HasMember("floor"));
}

TEST(Bench, LossThatIsNotFiniteIsReportedAndDoesNotStop) {
  std::vector<std::string> overrides = kTiny;
  overrides.push_back("optimizer.lr=1000");
  const BenchResult result = bench(overrides, {.steps = 3});
  EXPECT_THAT(result.non_finite, HasSubstr("loss"));
  EXPECT_GT(result.images_per_second, 0);
  EXPECT_THAT(bench_text(result), HasSubstr("not finite: loss"));
  EXPECT_FALSE(parse_json(bench_json(result))["loss_finite"].GetBool());
}

TEST(Bench, FloorIsThatOfTheConvolutionsAlone) {
  const BenchResult result = bench(kTiny, {.steps = 1, .floor = true});
  ASSERT_TRUE(result.floor);
  EXPECT_GT(result.floor->seconds, 0);
  EXPECT_LE(result.floor->seconds, result.floor->direct_seconds);
  EXPECT_GT(result.floor->convolutions, 60);  // R18: 20, pyramid: 8, heads: 10 on five levels
  EXPECT_THAT(bench_text(result), HasSubstr("x the floor"));
  EXPECT_GT(parse_json(bench_json(result))["floor"]["ratio"].GetDouble(), 0);
}

TEST(Bench, RanksShareTheMicroBatches) {
  const Config config = small_config({"train.batch=3", "train.micro_batch=1", "runtime.threads=1"});
  comm::run_local(2, [&](comm::Communicator& communicator) {
    comm::Progress progress;
    const BenchResult result = run_bench(config, {.steps = 1}, communicator, progress);
    EXPECT_EQ(result.ranks, 2);
    EXPECT_GT(result.phases.communication, 0);
  });
}

TEST(Bench, RefusesARankWithoutAMicroBatch) {
  const Config config = small_config({"train.batch=1", "train.micro_batch=1"});
  try {
    comm::run_local(2, [&](comm::Communicator& communicator) {
      comm::Progress progress;
      run_bench(config, {.steps = 1}, communicator, progress);
    });
    FAIL();
  } catch (const comm::Error& e) {
    EXPECT_EQ(e.code(), comm::ExitCode::kConfig);
    EXPECT_THAT(e.what(), HasSubstr("at most 1 ranks"));
  }
}

TEST(Bench, QuantileIsByNearestRank) {
  EXPECT_EQ(quantile({3, 1, 2}, 0.5), 2);
  EXPECT_EQ(quantile({3, 1, 2, 4}, 0.5), 2);
  EXPECT_EQ(quantile({1, 2, 3}, 0.99), 3);
  EXPECT_EQ(quantile({7}, 0.01), 7);
}

TEST(ProcessClock, CountsFromTheStartOfTheProcess) {
  const double first = seconds_since_process_start();
  EXPECT_GE(first, 0);
  EXPECT_LT(first, 3600);
  EXPECT_GE(seconds_since_process_start(), first);
}

TEST(TimedCommunicator, PassesOnAndAddsUpWaiting) {
  comm::run_local(2, [](comm::Communicator& inner) {
    TimedCommunicator timed(inner);
    std::vector<float> whole = {0, 0};
    whole[static_cast<std::size_t>(timed.rank())] = static_cast<float>(timed.rank() + 1);
    timed.all_gather(std::span<float>(whole))->wait();
    EXPECT_EQ(whole, (std::vector<float>{1, 2}));
    double sum = timed.rank();
    timed.all_reduce(std::span<double>(&sum, 1), comm::Reduction::kSum);
    EXPECT_EQ(sum, 1);
    EXPECT_GT(timed.seconds(), 0);
    EXPECT_EQ(timed.host(0), inner.host(0));
  });
}

}  // namespace
}  // namespace trainer
