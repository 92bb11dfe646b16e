#include "trainer/commands/doctor.h"

#include <gmock/gmock.h>

#include <set>

#include "comm/communicator_local.h"
#include "comm/version.h"
#include "tests/trainer/commands/command_fixture.h"
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
  for (const char* part : {"build", "libraries", "cpu", "memory", "disk", "limits", "ranks"}) {
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
}

TEST(Doctor, MeasuresBandwidthBetweenRanks) {
  comm::run_local(2, [](comm::Communicator& communicator) {
    const FactSection section = bandwidth_facts(communicator);
    ASSERT_THAT(section.facts, SizeIs(2));
    for (const Fact& fact : section.facts) EXPECT_GT(fact.number.value(), 1e6) << fact.key;
  });
}

TEST(Doctor, RankFactsTravel) {
  const RankFacts facts{"node one", "0.1.0 abc", "avx2", 64};
  const RankFacts back = unpack_rank_facts(pack(facts));
  EXPECT_EQ(back.host, facts.host);
  EXPECT_EQ(back.build, facts.build);
  EXPECT_EQ(back.isa, facts.isa);
  EXPECT_EQ(back.cores, facts.cores);
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
