#include "trainer/commands/doctor.h"

#include <gmock/gmock.h>

#include <set>

#include "comm/communicator_local.h"
#include "comm/error.h"
#include "comm/version.h"
#include "tests/trainer/commands/command_fixture.h"
#include "trainer/commands/doctor_gpus.h"
#include "trainer/commands/doctor_machine.h"

namespace trainer {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TEST(Doctor, ExaminesBuildMachineAndRanks) {
  const auto communicator = comm::single_communicator();
  const DoctorReport report = examine(*communicator);
  const std::string text = doctor_text(report);
  for (const char* part :
       {"build", "libraries", "cpu", "gpu", "memory", "disk", "limits", "ranks"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(text, HasSubstr(comm::kVersion));
  const rapidjson::Document json = parse_json(doctor_json(report));
  EXPECT_GE(json["cpu"]["cores"].GetDouble(), 1);
  EXPECT_GT(json["memory"]["total"].GetDouble(), 1e8);
  EXPECT_EQ(json["ranks"]["count"].GetDouble(), 1);
  EXPECT_TRUE(json["findings"].IsArray());
  for (const char* library : {"onednn", "hdf5"}) {
    EXPECT_THAT(json["libraries"][library].GetString(), testing::MatchesRegex("[0-9.]+"));
  }
  EXPECT_THAT(json["libraries"]["mpi"].GetString(), HasSubstr("MPI"));
  EXPECT_TRUE(json["gpu"]["device auto"].IsString());
}

// A machine with one GPU and a build that can use it.
GpuView gpu_machine() {
  const comm::Gpu gpu{0, "NVIDIA H100 80GB HBM3", "aa", 90, std::int64_t{80} << 30};
  return {{13000, "580.159.04", {gpu}, ""}, {13000, 91300, 22703}};
}
std::int64_t half_free(const comm::Gpu& gpu) { return gpu.memory_bytes / 2; }

std::string gpu_text(const Looked& looked) {
  return doctor_text({{looked.section}, looked.findings});
}

TEST(Doctor, ShowsGpusAndTheirLibraries) {
  const std::string text = gpu_text(gpu_facts(gpu_machine(), half_free));
  EXPECT_THAT(text, HasSubstr("the local rank's GPU"));
  EXPECT_THAT(text, HasSubstr("580.159.04, serves CUDA 13.0"));
  EXPECT_THAT(text, HasSubstr("9.13.0"));
  EXPECT_THAT(text, HasSubstr("2.27.3"));
  EXPECT_THAT(text, HasSubstr("NVIDIA H100 80GB HBM3, 80.0 GiB (40.0 GiB free), compute "
                              "capability 9.0"));
  EXPECT_THAT(text, HasSubstr("nothing is wrong"));
}

TEST(Doctor, SaysWhyThereIsNoGpu) {
  const GpuView none{{0, "", {}, "no NVIDIA driver on this machine"}, {13000, 91300, 0}};
  const Looked looked = gpu_facts(none, half_free);
  EXPECT_THAT(gpu_text(looked), HasSubstr("cpu: no NVIDIA driver on this machine"));
  EXPECT_THAT(looked.findings, IsEmpty());  // a machine without a GPU is a good machine
}

TEST(Doctor, FindsAGpuThatTheBuildOrTheDriverLeavesIdle) {
  GpuView view = gpu_machine();
  view.libraries = {};
  const Looked without = gpu_facts(view, half_free);
  ASSERT_THAT(without.findings, SizeIs(1));
  EXPECT_THAT(without.findings[0].what, HasSubstr("this build has no CUDA"));
  view = gpu_machine();
  view.survey.driver = 12040;
  const Looked old = gpu_facts(view, half_free);
  ASSERT_THAT(old.findings, SizeIs(1));
  EXPECT_THAT(old.findings[0].what, HasSubstr("too old: it serves CUDA 12.4"));
}

TEST(Doctor, FindsABrokenGpuAndADriverThatDoesNotStart) {
  const auto broken = [](const comm::Gpu&) -> std::int64_t {
    comm::fail(comm::ExitCode::kDevice, "cuda:0 cannot be used: uncorrectable ECC error");
  };
  const Looked looked = gpu_facts(gpu_machine(), broken);
  ASSERT_THAT(looked.findings, SizeIs(1));
  EXPECT_THAT(looked.findings[0].what, HasSubstr("uncorrectable ECC error"));
  EXPECT_THAT(gpu_text(looked), HasSubstr("(cannot be used)"));
  GpuView view = gpu_machine();
  view.survey.gpus.clear();
  view.survey.problem = "the NVIDIA driver does not start: system not ready";
  EXPECT_THAT(gpu_facts(view, half_free).findings, SizeIs(1));
}

TEST(Doctor, MeasuresBandwidthBetweenRanks) {
  comm::run_local(2, [](comm::Communicator& communicator) {
    const FactSection section = bandwidth_facts(communicator);
    ASSERT_THAT(section.facts, SizeIs(2));
    for (const Fact& fact : section.facts) EXPECT_GT(fact.number.value(), 1e6) << fact.key;
  });
}

TEST(Doctor, RankFactsTravel) {
  const RankFacts facts{"node one", "0.1.0 abc", "avx2", 64, "cuda:7"};
  const RankFacts back = unpack_rank_facts(pack(facts));
  EXPECT_EQ(back.host, facts.host);
  EXPECT_EQ(back.build, facts.build);
  EXPECT_EQ(back.isa, facts.isa);
  EXPECT_EQ(back.cores, facts.cores);
  EXPECT_EQ(back.device, facts.device);
}

TEST(Doctor, EqualRanksWithCoresEnoughAreFine) {
  const RankFacts rank{"a", "0.1.0 abc", "avx2", 2};
  EXPECT_THAT(check_ranks({rank, rank}), IsEmpty());
}

TEST(Doctor, NamesRanksThatDiffer) {
  const RankFacts rank{"a", "0.1.0 abc", "avx512_core", 4};
  RankFacts other = rank;
  other.host = "b";
  other.isa = "avx2";
  const auto isa = check_ranks({rank, other});
  ASSERT_THAT(isa, SizeIs(1));
  EXPECT_THAT(isa[0].what, HasSubstr("rank 1 on b computes with avx2"));
  other = rank;
  other.build = "0.1.0 def";
  const auto build = check_ranks({rank, other});
  ASSERT_THAT(build, SizeIs(1));
  EXPECT_THAT(build[0].what, HasSubstr("0.1.0 def"));
  EXPECT_THAT(build[0].remedy, HasSubstr("same binary"));
}

TEST(Doctor, NamesAHostWithMoreRanksThanCores) {
  const RankFacts rank{"a", "0.1.0 abc", "avx2", 2};
  const auto findings = check_ranks({rank, rank, rank});
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_THAT(findings[0].what, HasSubstr("3 ranks share 2 cores of a"));
}

TEST(Doctor, BoundRanksAreNotTooMany) {
  const RankFacts bound{"a", "0.1.0 abc", "avx2",
                        1};  // one core each: who knows how many there are
  EXPECT_THAT(check_ranks({bound, bound, bound}), IsEmpty());
}

TEST(Doctor, FindingsSayWhatToDo) {
  DoctorReport report;
  EXPECT_THAT(doctor_text(report), HasSubstr("nothing is wrong"));
  report.findings = {{"the roof leaks", "call a plumber"}};
  EXPECT_THAT(doctor_text(report), HasSubstr("wrong: the roof leaks\n   do: call a plumber"));
  const rapidjson::Document json = parse_json(doctor_json(report));
  EXPECT_STREQ(json["findings"][0]["do"].GetString(), "call a plumber");
}

TEST(Doctor, ReadsMeminfo) {
  constexpr const char* kText = "MemTotal:       24649112 kB\nMemFree:  1 kB\nHuge: none\n";
  EXPECT_EQ(meminfo_bytes(kText, "MemTotal"), std::int64_t{24649112} * 1024);
  EXPECT_EQ(meminfo_bytes(kText, "MemFree"), 1024);
  EXPECT_EQ(meminfo_bytes(kText, "MemAvailable"), std::nullopt);
  EXPECT_EQ(meminfo_bytes("Huge: none\n", "Huge"), std::nullopt);
}

}  // namespace
}  // namespace trainer
