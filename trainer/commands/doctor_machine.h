#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "trainer/commands/doctor.h"

namespace trainer {

// One part of the machine: what is there, and what is wrong with it.
struct Looked {
  FactSection section;
  std::vector<Finding> findings;
};

Looked memory_facts(int num_ranks);  // of the host, and of the control group where it has a limit
Looked disk_facts(int num_ranks);    // free space of the working directory
Looked limit_facts(int num_ranks);   // open files, stack, shared memory

// Time of an all-gather and an exchange of kBandwidthBytes a rank. Collective.
FactSection bandwidth_facts(comm::Communicator& communicator);
inline constexpr std::int64_t kBandwidthBytes = 16 << 20;

// "MemTotal:  4096 kB" of /proc/meminfo's text, in bytes.
std::optional<std::int64_t> meminfo_bytes(std::string_view text, std::string_view key);

}  // namespace trainer
