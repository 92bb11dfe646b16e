#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace trainer {

// Something known about this machine; `number` where it is one (then `text` is it with its unit).
struct Fact {
  std::string key;
  std::string text;
  std::optional<double> number = {};
};

struct FactSection {
  std::string name;
  std::vector<Fact> facts;
};

struct Finding {
  std::string what, remedy;
};

struct DoctorReport {
  std::vector<FactSection> sections;
  std::vector<Finding> findings;  // what is wrong and what to do
};

// Looks at the build, the machine and the ranks. Collective; complete on rank 0.
DoctorReport examine(comm::Communicator& communicator);

std::string doctor_text(const DoctorReport& report);
std::string doctor_json(const DoctorReport& report);

// What a rank tells the others about itself.
struct RankFacts {
  std::string host, build, isa;
  int cores = 0;
  std::string device = "cpu";  // of `device: auto`
};
std::string pack(const RankFacts& facts);
RankFacts unpack_rank_facts(const std::string& line);

// What is wrong with a set of ranks: builds or instruction sets that differ, more ranks on a host
// than it has cores.
std::vector<Finding> check_ranks(const std::vector<RankFacts>& ranks);

}  // namespace trainer
