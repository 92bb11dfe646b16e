#pragma once

#include <functional>
#include <optional>
#include <string>

namespace comm {

// What the environment says about who started this process.
struct Launcher {
  bool serves_mpi = false;  // an MPI library will find its peers: initialize it
  std::string variable;     // the one that names the size; empty: none
  std::optional<int> num_ranks;
};

// Reads, first hit first: OMPI_COMM_WORLD_SIZE, PMI_SIZE, SLURM_STEP_NUM_TASKS or SLURM_NTASKS
// (only where SLURM_PROCID makes this a task), WORLD_SIZE (only with RANK).
// `get` as std::getenv.
Launcher launcher_from_environment(const std::function<const char*(const char*)>& get);

// Errors: kUsage when `launcher` says more than one rank and `num_ranks` is one.
void require_same_size(const Launcher& launcher, int num_ranks);

}  // namespace comm
