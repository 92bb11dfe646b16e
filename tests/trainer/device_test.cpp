// Which device a rank takes, and when a run is refused: with drivers and GPUs that are pretended.
#include "trainer/device.h"

#include <gmock/gmock.h>

#include "comm/communicator_local.h"
#include "comm/error.h"

namespace trainer {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::int64_t kGiB = std::int64_t{1} << 30;
const comm::Gpu kFirst{0, "NVIDIA H100 80GB HBM3", "aa", 90, 80 * kGiB};
const comm::Gpu kSecond{1, "NVIDIA H100 80GB HBM3", "bb", 90, 80 * kGiB};

GpuView machine(const std::vector<comm::Gpu>& gpus) {
  return {{13000, "580.159.04", gpus, gpus.empty() ? "the NVIDIA driver finds no GPU" : ""},
          {13000, 91300, 22703}};
}

RuntimeConfig wanting(DeviceChoice device) {
  RuntimeConfig runtime;
  runtime.device = device;
  return runtime;
}

TEST(GpuProblem, NamesTheFirstThingThatIsMissing) {
  GpuView view = machine({kFirst});
  EXPECT_THAT(gpu_problem(view), IsEmpty());
  EXPECT_EQ(gpu_problem(machine({})), "the NVIDIA driver finds no GPU");
  view.survey.driver = 12040;
  EXPECT_EQ(gpu_problem(view),
            "the NVIDIA driver 580.159.04 is too old: it serves CUDA 12.4, this build needs 13.0");
  view.libraries.cudnn = 0;
  EXPECT_THAT(gpu_problem(view), HasSubstr("no convolutions for GPUs"));
  view.libraries.runtime = 0;
  EXPECT_THAT(gpu_problem(view), HasSubstr("launch/build cuda"));
}

TEST(GpuProblem, ADriverOfTheSameMajorVersionIsNewEnough) {
  GpuView view = machine({kFirst});
  view.libraries.runtime = 13020;
  EXPECT_THAT(gpu_problem(view), IsEmpty());
}

TEST(RankDevice, AutoTakesTheGpuOfTheLocalRank) {
  const GpuView view = machine({kFirst, kSecond});
  const RankDevice second = rank_device({}, view, 1);
  EXPECT_EQ(second.kind, comm::DeviceKind::kCuda);
  EXPECT_EQ(second.index, 1);
  EXPECT_EQ(second.gpu_uuid, "bb");
  EXPECT_EQ(rank_device({}, view, 2).index, 0);  // device_conflict refuses it
}

TEST(RankDevice, AutoWithoutAGpuIsTheCpu) {
  const RankDevice device = rank_device({}, machine({}), 0);
  EXPECT_EQ(device.kind, comm::DeviceKind::kCpu);
  EXPECT_THAT(device.problem, IsEmpty());
}

TEST(RankDevice, CudaWithoutAGpuSaysWhy) {
  const RankDevice device = rank_device(wanting(DeviceChoice::kCuda), machine({}), 0);
  EXPECT_EQ(device.problem,
            "runtime.device cuda: the NVIDIA driver finds no GPU; set runtime.device=cpu or auto");
}

TEST(RankDevice, CpuIsTakenWhereItIsAskedFor) {
  const RankDevice device = rank_device(wanting(DeviceChoice::kCpu), machine({kFirst}), 0);
  EXPECT_EQ(device.kind, comm::DeviceKind::kCpu);
}

TEST(RankDevice, Bf16NeedsAGpu) {
  RuntimeConfig runtime;
  runtime.precision = Precision::kBf16;
  EXPECT_THAT(rank_device(runtime, machine({kFirst}), 0).problem, IsEmpty());
  EXPECT_THAT(rank_device(runtime, machine({}), 0).problem, HasSubstr("bf16 needs a GPU"));
}

TEST(RankDevice, AnOldGpuIsRefused) {
  comm::Gpu old = kFirst;
  old.name = "Tesla T4";
  old.capability = 75;
  RuntimeConfig runtime;
  EXPECT_EQ(rank_device(runtime, machine({old}), 0).kind, comm::DeviceKind::kCpu);
  EXPECT_THAT(rank_device(runtime, machine({old}), 0).problem, IsEmpty());
  runtime.device = DeviceChoice::kCuda;
  EXPECT_THAT(rank_device(runtime, machine({old}), 0).problem,
              HasSubstr("cuda:0 (Tesla T4) is too old: its compute capability is 7.5"));
}

TEST(RankDevice, Travels) {
  const RankDevice device{comm::DeviceKind::kCuda, 3, "node one", "NVIDIA H100", "aa", ""};
  RankDevice back = unpack_rank_device(pack(device));
  EXPECT_EQ(back.kind, device.kind);
  EXPECT_EQ(back.index, 3);
  EXPECT_EQ(back.host, "node one");
  EXPECT_EQ(back.gpu_name, "NVIDIA H100");
  EXPECT_EQ(back.gpu_uuid, "aa");
  EXPECT_THAT(back.problem, IsEmpty());
  back.problem = "broken";
  EXPECT_EQ(unpack_rank_device(pack(back)).problem, "broken");
}

// Two ranks, the second as `change` leaves it.
std::vector<RankDevice> two(const std::function<void(RankDevice&)>& change) {
  const RankDevice first{comm::DeviceKind::kCuda, 0, "a", "H100", "aa", ""};
  std::vector<RankDevice> ranks{first, first};
  change(ranks[1]);
  return ranks;
}

TEST(DeviceConflict, TwoRanksOnOneGpuNeedPermission) {
  const auto same = two([](RankDevice&) {});
  EXPECT_THAT(device_conflict({}, same),
              HasSubstr("ranks 0 and 1 on a would share one GPU, cuda:0 (H100)"));
  EXPECT_THAT(device_conflict({}, same), HasSubstr("runtime.share_gpu=true"));
  RuntimeConfig sharing;
  sharing.share_gpu = true;
  EXPECT_THAT(device_conflict(sharing, same), IsEmpty());
}

TEST(DeviceConflict, EachRankMaySeeItsOwnGpuAsTheFirst) {
  EXPECT_THAT(device_conflict({}, two([](RankDevice& r) { r.gpu_uuid = "bb"; })), IsEmpty());
  EXPECT_THAT(device_conflict({}, two([](RankDevice& r) { r.host = "b"; })), IsEmpty());
}

TEST(DeviceConflict, NamesTheRankWithoutAGpu) {
  const auto mixed = two([](RankDevice& r) {
    r.kind = comm::DeviceKind::kCpu;
    r.host = "b";
  });
  EXPECT_THAT(device_conflict({}, mixed), HasSubstr("rank 1 on b has no usable GPU"));
  const auto broken = two([](RankDevice& r) { r.problem = "broken"; });
  EXPECT_EQ(device_conflict({}, broken), "rank 1 on a: broken");
}

TEST(ChooseDevice, EveryRankHearsTheSame) {
  if (gpu_problem(gpu_view()).empty()) GTEST_SKIP() << "this build trains on the GPU that is here";
  comm::run_local(2, [](comm::Communicator& communicator) {
    EXPECT_EQ(choose_device({}, communicator), comm::Device{});
    try {
      choose_device(wanting(DeviceChoice::kCuda), communicator);
      ADD_FAILURE() << "cuda was accepted";
    } catch (const comm::AgreedError& error) {
      EXPECT_EQ(error.code(), comm::ExitCode::kDevice);
      EXPECT_THAT(error.what(), HasSubstr("rank 0 on "));
    }
  });
}

TEST(ExactReduction, AutoIsExactWhereMpiCarriesTheGradients) {
  RuntimeConfig runtime;
  EXPECT_TRUE(exact_reduction(runtime, comm::Device{}));
  runtime.share_gpu = true;
  EXPECT_TRUE(exact_reduction(runtime, {comm::DeviceKind::kCuda, 0}));
  runtime.reduction = Reduction::kFast;
  EXPECT_FALSE(exact_reduction(runtime, comm::Device{}));
  EXPECT_FALSE(exact_reduction(runtime, {comm::DeviceKind::kCuda, 0}));
}

TEST(BulkCommunicator, CpusNeedNone) {
  comm::run_local(2, [](comm::Communicator& communicator) {
    EXPECT_EQ(bulk_communicator({}, communicator, comm::Stream(comm::Device{})), nullptr);
  });
}

TEST(RequireMemory, CpusPass) { require_memory({}, 1 << 30); }

TEST(RequireMemory, AGpuThatIsTooSmallIsNamed) {
  const comm::GpuSurvey survey = comm::survey_gpus();
  if (survey.gpus.empty()) GTEST_SKIP() << survey.problem;
  const comm::Device device{comm::DeviceKind::kCuda, 0};
  require_memory(device, 1);
  try {
    require_memory(device, survey.gpus[0].memory_bytes + 1);
    ADD_FAILURE() << "more memory than there is was accepted";
  } catch (const comm::Error& error) {
    EXPECT_EQ(error.code(), comm::ExitCode::kDevice);
    EXPECT_THAT(error.what(), HasSubstr("is too small"));
  }
}

}  // namespace
}  // namespace trainer
