#include "comm/launcher.h"

#include <charconv>
#include <string_view>

#include "comm/error.h"

namespace comm {
namespace {

std::optional<int> parse(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

Launcher launcher_from_environment(const std::function<const char*(const char*)>& get) {
  const struct {
    const char* size;
    const char* only_with;  // a variable that the launcher sets for its ranks alone
  } candidates[] = {{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"},
                    {"PMI_SIZE", "PMI_SIZE"},
                    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"},
                    {"SLURM_NTASKS", "SLURM_PROCID"},
                    {"WORLD_SIZE", "RANK"}};
  Launcher launcher;
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"})
    launcher.serves_mpi = launcher.serves_mpi || get(name) != nullptr;
  for (const auto& candidate : candidates) {
    if (get(candidate.size) == nullptr || get(candidate.only_with) == nullptr) continue;
    launcher.variable = candidate.size;
    launcher.num_ranks = parse(get(candidate.size));
    break;
  }
  return launcher;
}

void require_same_size(const Launcher& launcher, int num_ranks) {
  if (num_ranks > 1 || launcher.num_ranks.value_or(1) <= 1) return;
  fail(ExitCode::kUsage,
       "{}={} but MPI says 1 rank: the launcher and this MPI library do not know each other; "
       "start with the mpirun of the MPI this was built with, or under Slurm with "
       "`srun --mpi=pmix`",
       launcher.variable, *launcher.num_ranks);
}

}  // namespace comm
