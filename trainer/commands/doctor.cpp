// ridgeline doctor
#include "trainer/commands/doctor.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <sstream>

#include "comm/build.h"
#include "comm/device.h"
#include "comm/gpu.h"
#include "comm/mpi_version.h"
#include "comm/threads.h"
#include "comm/version.h"
#include "models/ops/conv2d_times.h"
#include "trainer/agree.h"
#include "trainer/checkpoint/hdf5_version.h"
#include "trainer/commands/doctor_gpus.h"
#include "trainer/commands/doctor_machine.h"
#include "trainer/commands/json_writer.h"
#include "trainer/commands/verbs.h"
#include "trainer/report/text_table.h"

namespace trainer {
namespace {

std::string build_id() {
  return fmt::format("{} {}", comm::kVersion, *comm::kGitCommit ? comm::kGitCommit : "-");
}

FactSection build_section() {
  const std::string cuda =
      comm::kHasCuda ? "built in"
                     : "not built in: this binary runs on CPUs; `launch/build cuda` makes another";
  const std::string nccl = comm::kHasNccl   ? "built in"
                           : comm::kHasCuda ? "not built in: GPUs exchange through the host"
                                            : "not built in: it needs CUDA";
  return {"build",
          {{"version", comm::kVersion},
           {"commit", *comm::kGitCommit ? comm::kGitCommit : "unknown (not built in a clone)"},
           {"type", comm::kBuildType},
           {"compiler", comm::kCompiler},
           {"march", comm::kMarch},
           {"cuda", cuda},
           {"nccl", nccl}}};
}

FactSection library_section() {
  return {"libraries",
          {{"onednn", models::onednn_version()},
           {"hdf5", hdf5_version()},
           {"mpi", comm::mpi_version()}}};
}

FactSection cpu_section(int threads) {
  const comm::CpuInfo cpu = comm::cpu_info();
  const auto cores = static_cast<double>(cpu.cores.size());
  return {"cpu",
          {{"model", cpu.model.empty() ? "unknown" : cpu.model},
           {"isa", cpu.isa},
           {"cores", fmt::format("{} of this process", cpu.cores.size()), cores},
           {"threads", fmt::format("{} a rank", threads), static_cast<double>(threads)}}};
}

std::vector<Finding> check_cpu() {
  const std::string isa = comm::cpu_info().isa;
  if (isa.starts_with("avx512")) return {};
  if (isa.starts_with("avx2")) {
    return {{"the CPU has no AVX-512: convolutions run at about half speed and without Winograd",
             "expected on this machine; use one with AVX-512 or a GPU for long runs"}};
  }
  return {{"the CPU has neither AVX-512 nor AVX2 (it has " + isa + "): training is very slow",
           "use another machine"}};
}

FactSection rank_section(const std::vector<RankFacts>& ranks) {
  FactSection section{"ranks",
                      {{"count", std::to_string(ranks.size()), static_cast<double>(ranks.size())}}};
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    section.facts.push_back(
        {fmt::format("rank {}", r), fmt::format("{} ({} cores, {}), {}", ranks[r].host,
                                                ranks[r].cores, ranks[r].isa, ranks[r].device)});
  }
  return section;
}

std::vector<RankFacts> gather_ranks(comm::Communicator& communicator, comm::Device device) {
  const comm::CpuInfo cpu = comm::cpu_info();
  const RankFacts mine{communicator.host(communicator.rank()), build_id(), cpu.isa,
                       static_cast<int>(cpu.cores.size()), comm::to_string(device)};
  std::vector<RankFacts> ranks;
  for (const std::string& line : communicator.all_gather(pack(mine))) {
    ranks.push_back(unpack_rank_facts(line));
  }
  return ranks;
}

void append(std::vector<Finding>& to, const std::vector<Finding>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

void append(DoctorReport& report, const Looked& looked) {
  report.sections.push_back(looked.section);
  append(report.findings, looked.findings);
}

std::vector<Finding> check_devices(const std::vector<RankDevice>& devices) {
  const std::string conflict = device_conflict({}, devices);
  if (conflict.empty()) return {};
  return {{conflict, "training refuses to start like this"}};
}

}  // namespace

std::string pack(const RankFacts& facts) {
  return fmt::format("{}\t{}\t{}\t{}\t{}", facts.host, facts.build, facts.isa, facts.device,
                     facts.cores);
}

RankFacts unpack_rank_facts(const std::string& line) {
  RankFacts facts;
  std::istringstream fields(line);
  std::getline(fields, facts.host, '\t');
  std::getline(fields, facts.build, '\t');
  std::getline(fields, facts.isa, '\t');
  std::getline(fields, facts.device, '\t');
  fields >> facts.cores;
  return facts;
}

std::vector<Finding> check_ranks(const std::vector<RankFacts>& ranks) {
  std::vector<Finding> findings;
  std::map<std::string, int> ranks_of_host, cores_of_host;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    ++ranks_of_host[ranks[r].host];
    // The largest mask: a lower bound of what the host has, exact where ranks are not bound.
    int& cores = cores_of_host[ranks[r].host];
    cores = std::max(cores, ranks[r].cores);
    if (ranks[r].build != ranks[0].build) {
      findings.push_back({fmt::format("rank {} on {} is build {}, rank 0 is {}", r, ranks[r].host,
                                      ranks[r].build, ranks[0].build),
                          "give every host the same binary"});
    }
    if (ranks[r].isa != ranks[0].isa) {
      findings.push_back(
          {fmt::format(
               "rank {} on {} computes with {}, rank 0 with {}: the bits of a run depend on "
               "the instruction set",
               r, ranks[r].host, ranks[r].isa, ranks[0].isa),
           "use hosts with equal CPUs where equal bits matter"});
    }
  }
  for (const auto& [host, count] : ranks_of_host) {
    const int cores = cores_of_host[host];
    if (cores > 1 && count > cores) {
      findings.push_back({fmt::format("{} ranks share {} cores of {}", count, cores, host),
                          "start at most one rank a core"});
    }
  }
  return findings;
}

DoctorReport examine(comm::Communicator& communicator) {
  DoctorReport report;
  const int threads = comm::default_threads(communicator);
  const GpuView gpus = gpu_view();
  const std::vector<RankDevice> devices = gather_devices({}, gpus, communicator);
  const RankDevice& mine = devices[static_cast<std::size_t>(communicator.rank())];
  const std::vector<RankFacts> ranks = gather_ranks(communicator, {mine.kind, mine.index});
  report.sections = {build_section(), library_section(), cpu_section(threads)};
  append(report.findings, check_cpu());
  append(report, gpu_facts(gpus, comm::free_gpu_bytes));
  for (const auto& look : {memory_facts, disk_facts, limit_facts}) {
    append(report, look(communicator.size()));
  }
  report.sections.push_back(rank_section(ranks));
  append(report.findings, check_ranks(ranks));
  append(report.findings, check_devices(devices));
  if (communicator.size() > 1) report.sections.push_back(bandwidth_facts(communicator));
  return report;
}

std::string doctor_text(const DoctorReport& report) {
  TextTable table({{"part"}, {"what"}, {"value"}});
  for (const FactSection& section : report.sections) {
    std::string name = section.name;
    for (const Fact& fact : section.facts) {
      table.row({name, fact.key, fact.text});
      name.clear();
    }
  }
  std::string text = table.text() + "\n";
  for (const Finding& finding : report.findings) {
    text += "wrong: " + finding.what + "\n   do: " + finding.remedy + "\n";
  }
  return text + (report.findings.empty() ? "nothing is wrong\n" : "");
}

std::string doctor_json(const DoctorReport& report) {
  JsonWriter json;
  for (const FactSection& section : report.sections) {
    json.begin_object(section.name);
    for (const Fact& fact : section.facts) {
      if (fact.number) {
        json.number(fact.key, fact.number);
      } else {
        json.text(fact.key, fact.text);
      }
    }
    json.end_object();
  }
  json.begin_array("findings");
  for (const Finding& finding : report.findings) {
    json.begin_object();
    json.text("what", finding.what);
    json.text("do", finding.remedy);
    json.end_object();
  }
  json.end_array();
  return json.finish();
}

void add_doctor(CLI::App& app, const CommandContext& context) {
  auto* verb = app.add_subcommand("doctor", "this build and machine: what is wrong, what to do");
  verb->footer("Example: mpirun -np 2 ridgeline doctor");
  auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "one JSON object on stdout");
  verb->callback([=, &context] {
    const DoctorReport report = examine(context.communicator);
    if (!context.is_root()) return;
    std::fputs((*json ? doctor_json(report) : doctor_text(report)).c_str(), stdout);
  });
}

}  // namespace trainer
